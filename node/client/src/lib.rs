//! diversity-client
