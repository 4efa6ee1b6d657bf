//! Both ends of the conversation over real sockets.

#[cfg(test)]
mod both;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod scripted;
