//! diversity-round
