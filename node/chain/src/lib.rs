//! diversity-chain
