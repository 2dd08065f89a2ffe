//! The engine under virtual time: scripts against hand-driven peers, networks of engines, and random inputs.

mod bonds;
mod floods;
mod lookups;
mod net;
mod peers;
mod random;
mod upkeep;
