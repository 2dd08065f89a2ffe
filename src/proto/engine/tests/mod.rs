//! The engine under virtual time: scripts against hand-driven peers, networks of engines, and random inputs.

mod bonds;
mod lookups;
mod net;
mod random;
mod upkeep;
