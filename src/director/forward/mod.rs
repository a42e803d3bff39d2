//! Forwarding: from a connection and a direction to a rewrite recipe, and the recipe applied to bytes.

pub mod hops;
pub mod recipe;
