//! diversity-proto
