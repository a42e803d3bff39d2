//! The API's task: bound before anything is attached, served beside the main loop, ended first.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control::api::plane::Shared;
use crate::control::api::settings::{Settings, Token};
use crate::control::api::{self, Listener};
use crate::control::config::Api as Wanted;
use crate::control::plane::ControlPlane;

/// How long answers on their way may take at the end; the API itself gives them a second.
const END_MAX: Duration = Duration::from_secs(2);

/// Takes the socket, and the port if there is to be one.
///
/// # Errors
/// Another process has it, the token cannot be read or is unfit, or the kernel refuses.
pub(super) fn bind(wanted: &Wanted) -> anyhow::Result<Listener> {
    let token = wanted.token_file.as_deref().filter(|_| wanted.listen.is_some()).map(|path| {
        let text = fs::read_to_string(path)
            .with_context(|| format!("the token of [api] listen cannot be read from {}", path.display()))?;
        Token::new(&text).with_context(|| format!("the token in {} is not usable", path.display()))
    });
    let settings = Settings {
        socket: wanted.socket.clone(),
        mode: wanted.mode,
        group: wanted.group.clone(),
        listen: wanted.listen,
        token: token.transpose()?,
    };
    Ok(Listener::bind(&settings)?)
}

/// The API being served.
#[derive(Debug)]
pub(super) struct Serving {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves the API from now on.
    pub(super) fn start(listener: Listener, plane: Arc<Mutex<ControlPlane>>) -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let ended = async {
                let _told_or_dropped = ended.await;
            };
            if let Err(error) = api::serve(listener, Shared::new(plane), ended).await {
                tracing::error!("the API cannot be served: {error}");
            }
        });
        Self { end, task }
    }

    /// Finishes the answers that are on their way, and removes the socket.
    pub(super) async fn stop(self) {
        drop(self.end);
        if timeout(END_MAX, self.task).await.is_err() {
            tracing::warn!("clients of the API were cut off");
        }
    }
}
