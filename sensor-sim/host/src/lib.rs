//! A fleet of bike locks in software: it turns trips into the messages of locks, signs them as a device does
//! ([`diversity_sensor_core`]), and keeps sending until nodes of every user hold them and every month is settled.
//!
//! The road of a replay: [`trips`] are read and checked whole, [`schedule`] says what each lock sends, [`locks`] has their keys,
//! [`network`] finds or creates the agreement, [`deliver`] sends, [`watch`] waits until every live node shows every month;
//! [`run`] ties them together.

pub mod city;
pub mod deliver;
pub mod epilogue;
pub mod faults;
pub mod folder;
pub mod holdings;
pub mod locks;
pub mod network;
pub mod run;
pub mod schedule;
pub mod tally;
pub mod trips;
pub mod watch;
