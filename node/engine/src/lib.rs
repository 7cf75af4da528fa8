//! diversity-engine
