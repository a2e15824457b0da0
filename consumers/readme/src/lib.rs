//! The examples of the project's README, compiled as a user's program would be.

#![doc = include_str!("../../../README.md")]
