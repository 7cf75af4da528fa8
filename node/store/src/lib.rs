//! diversity-store
