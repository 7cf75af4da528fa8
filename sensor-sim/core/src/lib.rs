//! diversity-sensor-core
