//! What a constrained sensor does: it counts, frames and signs its messages (wire-format §3).
//!
//! The crate needs neither `std` nor a heap, and holds no message longer than a frame takes. The frames are the bytes of
//! `diversity_proto::frame`, to which the tests and the golden vectors hold it.
//!
//! A device keeps three promises, and each has its place here:
//! - **No `q` is ever signed twice with different values** (that would void the sensor, rule R5): [`Sensor::seal`] has the
//!   board store counter and frame durably, in one step, *before* it gives the frame out.
//! - **No signed frame is lost** before nodes of every user have acknowledged it (rule R7): the board keeps it until
//!   [`Sensor::acknowledged`] says otherwise. It is sent again as the identical bytes.
//! - **A reboot is visible**: the first frame of a boot epoch names the last `q` and the frame before it.
//!
//! ```
//! # use diversity_sensor_core::{Acknowledged, Body, Board, Counter, Identity, Key, Period, Sensor, FRAME_BYTES_MAX};
//! # struct Flash(Option<Counter>, Key);
//! # impl Board for Flash {
//! #     type Error = ();
//! #     fn load(&mut self) -> Result<Option<Counter>, ()> { Ok(self.0) }
//! #     fn commit(&mut self, counter: &Counter, _frame: &[u8]) -> Result<(), ()> { self.0 = Some(*counter); Ok(()) }
//! #     fn release(&mut self, _next_q: u64) -> Result<(), ()> { Ok(()) }
//! #     fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ()> { Ok(self.1.sign(digest)) }
//! # }
//! # let board = Flash(None, Key::from_bytes(&[7; 32]).unwrap());
//! let identity = Identity { deployment: [0; 28], sensor: [1; 20], width: 1, period: Period::Month };
//! let mut sensor = Sensor::start(board, identity).unwrap();
//! let mut body = Body::<256>::new(&identity);
//! body.push(1_443_657_600, &[1]).unwrap();
//! body.push(1_443_657_660, &[0]).unwrap();
//! let mut out = [0; 512];
//! let frame = sensor.seal(&body, &mut out).unwrap();
//! assert_eq!((frame.first_q, frame.next_q), (0, 2));
//! ```
#![no_std]

mod body;
mod key;
mod period;
mod sensor;

pub use body::{Body, PushError};
pub use key::{Key, KeyError};
pub use period::Period;
pub use sensor::{Acknowledged, Board, Counter, Identity, SealError, Sealed, Sensor};

/// Version of the frame format that this crate writes.
pub const VERSION: u8 = 1;
/// Most messages in one frame.
pub const FRAME_MESSAGES_MAX: u16 = 1_024;
/// Most bytes of body in one frame.
pub const FRAME_BODY_BYTES_MAX: usize = 16_384;
/// Bytes of a frame beside its body: head, opening, length and signature.
pub const FRAME_OVERHEAD_MAX: usize = 37 + 40 + 4 + 64;
/// Most bytes of a frame.
pub const FRAME_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX + FRAME_OVERHEAD_MAX;
/// No clock that was set shows an earlier Unix second: 2000-01-01 UTC.
pub const TIME_PLAUSIBLE_FROM: u64 = 946_684_800;
/// Sensor time is below this many Unix seconds.
pub const TIME_MAX: u64 = 1 << 48;
/// `q` is below this.
pub const Q_MAX: u64 = 1 << 62;
