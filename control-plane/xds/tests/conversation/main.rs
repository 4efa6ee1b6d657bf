//! Both ends of the conversation over real sockets.

mod both;
mod kit;
mod raw;
mod scripted;
