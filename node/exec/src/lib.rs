//! diversity-exec
