//! diversity-e2e
