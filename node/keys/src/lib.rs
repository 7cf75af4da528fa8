//! diversity-keys
