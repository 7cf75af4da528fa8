//! diversity-sim
