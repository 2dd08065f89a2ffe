//! The engine under virtual time: scripts against hand-driven peers, networks of engines, and random inputs.

mod admission;
mod alarms;
mod bonds;
mod bounds;
mod floods;
mod former;
mod knocks;
mod liars;
mod lookup_bonds;
mod lookups;
mod net;
mod peers;
mod random;
mod refresh;
mod renewal;
mod repeats;
mod upkeep;
