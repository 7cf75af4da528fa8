//! diversity-net
