//! What the fuzz targets do with an input. Also a module of the test `fuzz_replay`, which needs no cargo-fuzz.
//!
//! | file | owns |
//! | --- | --- |
//! | [`parse`], [`config`], [`engine`], [`methods`] | a target each: `run` takes any bytes and panics if xvs is wrong |
//! | [`script`] | engine inputs: bytes to frames, waits and changes of routes |
//! | [`drive`] | how a director carries out a script |
//! | [`watched`], [`forwarded`] | the director under test of `engine` and of `methods`, with what must be true after every step |
//! | [`wire`], [`sight`] | what may have happened to a frame that is sent, by an independent parser |
//! | [`seeds`] | the inputs to begin with, by the name of their scenario |
#![allow(missing_docs)]

pub mod config;
mod drive;
pub mod engine;
mod forwarded;
pub mod methods;
pub mod parse;
mod script;
pub mod seeds;
mod sight;
#[allow(dead_code, reason = "shared with the director's tests")]
#[path = "../../engine/table.rs"]
mod table;
mod watched;
mod wire;
