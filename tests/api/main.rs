//! The API from outside: a control plane that is only a few lists, served on a real socket.

mod client;
mod document;
mod hostile;
mod http;
mod plane;
mod served;
mod tcp;
