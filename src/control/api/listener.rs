//! Where clients come in: the Unix socket, held by one process at a time, and the TCP port if there is one.
//!
//! A lock on a file next to the socket (`xvs.sock.lock`) is held for as long as the socket is: who has the lock may
//! replace what is left of a process that is gone, and nobody ever removes the socket of one that lives. The lock's
//! file stays; the lock goes with the process, however it ends.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Group;
use socket2::{Domain, SockAddr, Socket, Type};

use super::holder::Holder;
use super::limits::BACKLOG;
use super::settings::{Settings, Token};

/// Why the API cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the socket.
    #[error(
        "socket {} is held by {holder}: stop it, or give this xvs a socket of its own with [api] socket",
        socket.display()
    )]
    Held {
        /// The socket.
        socket: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// Something else is in the socket's place.
    #[error("{} is there and is no socket: move it away, or choose another path with [api] socket", .0.display())]
    NoSocket(PathBuf),
    /// There is no such group.
    #[error("there is no group `{0}` on this host: correct [api] group, or create it with groupadd")]
    NoGroup(String),
    /// TCP without a secret.
    #[error("[api] listen = \"{0}\" needs a token: set [api] token_file")]
    NoToken(SocketAddr),
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, BindError>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, BindError> {
        self.map_err(|source| BindError::Refused { what: what(), source: source.into() })
    }
}

/// Where clients come in. Dropping it removes the socket.
#[derive(Debug)]
pub struct Listener {
    pub(super) unix: UnixListener,
    pub(super) tcp: Option<(TcpListener, Token)>,
    socket: PathBuf,
    /// Held until the socket is gone.
    _lock: File,
}

impl Listener {
    /// Takes the socket, and the TCP port if there is to be one: clients may connect from now on, and are served
    /// once [`serve`](super::serve()) runs.
    ///
    /// # Errors
    /// Another process has the socket, or the kernel refuses.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let tcp = match (settings.listen, &settings.token) {
            (None, _) => None,
            (Some(address), None) => return Err(BindError::NoToken(address)),
            (Some(address), Some(token)) => Some((bind_tcp(address)?, token.clone())),
        };
        let socket = settings.socket.clone();
        if let Some(directory) = socket.parent().filter(|path| !path.as_os_str().is_empty()) {
            fs::create_dir_all(directory)
                .tried(|| format!("make the directory {} of the API's socket", directory.display()))?;
        }
        let lock = lock(&socket)?;
        clear(&socket)?;
        let unix = bind_unix(settings)?;
        Ok(Self { unix, tcp, socket, _lock: lock })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::debug!("socket {} is left over: {error}", self.socket.display());
        }
    }
}

/// Takes the lock next to the socket and leaves this process's number in it.
fn lock(socket: &Path) -> Result<File, BindError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let what = || format!("take the lock {} of the API's socket", path.display());
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).tried(what)?;
    match file.try_lock() {
        Ok(()) => {
            let pid = format!("{}\n", std::process::id());
            file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).tried(what)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _as_far_as_it_goes = file.read_to_string(&mut text);
            let accepting = Holder::at(socket).ok().flatten();
            let holder = accepting.unwrap_or_else(|| Holder::of(text.trim().parse().ok()));
            Err(BindError::Held { socket: socket.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(BindError::Refused { what: what(), source }),
    }
}

/// Removes what a process left that is gone. Called with the lock.
fn clear(socket: &Path) -> Result<(), BindError> {
    let what = || format!("see whether socket {} is in use", socket.display());
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).tried(what),
        Ok(file) if !file.file_type().is_socket() => Err(BindError::NoSocket(socket.to_owned())),
        Ok(_) => match Holder::at(socket).tried(what)? {
            Some(holder) => Err(BindError::Held { socket: socket.to_owned(), holder }),
            None => fs::remove_file(socket).tried(|| format!("remove the old socket {}", socket.display())),
        },
    }
}

fn bind_unix(settings: &Settings) -> Result<UnixListener, BindError> {
    let socket = &settings.socket;
    let what = || format!("listen on socket {}", socket.display());
    let group = match &settings.group {
        None => None,
        Some(name) => {
            let found = Group::from_name(name).tried(|| format!("look up group {name}"))?;
            Some(found.ok_or_else(|| BindError::NoGroup(name.clone()))?.gid.as_raw())
        }
    };
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).tried(what)?;
    // The file is made with the permissions of the socket (unix_bind in net/unix/af_unix.c): nobody else comes in
    // before group and mode are set.
    fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR).tried(what)?;
    listener.bind(&SockAddr::unix(socket).tried(what)?).tried(what)?;
    let finished = (|| {
        if group.is_some() {
            chown(socket, None, group).tried(|| {
                format!(
                    "give socket {} to group {}",
                    socket.display(),
                    settings.group.as_deref().unwrap_or_default()
                )
            })?;
        }
        fs::set_permissions(socket, Permissions::from_mode(settings.mode & 0o777)).tried(what)?;
        listener.listen(BACKLOG).tried(what)?;
        listener.set_nonblocking(true).tried(what)
    })();
    if let Err(error) = finished {
        let _gone_already = fs::remove_file(socket);
        return Err(error);
    }
    Ok(listener.into())
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let what = || format!("listen on {address} ([api] listen)");
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).tried(what)?;
    listener.set_reuse_address(true).tried(what)?;
    listener.bind(&address.into()).tried(what)?;
    listener.listen(BACKLOG).tried(what)?;
    listener.set_nonblocking(true).tried(what)?;
    Ok(listener.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &tempfile::TempDir) -> Settings {
        Settings { socket: directory.path().join("run/xvs.sock"), ..Settings::default() }
    }

    #[test]
    fn the_socket_has_its_mode_and_is_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { mode: 0o640, ..settings(&directory) };
        let listener = Listener::bind(&settings).unwrap();
        let mode = fs::metadata(&settings.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        drop(listener);
        assert!(!settings.socket.exists());
        Listener::bind(&settings).unwrap();
    }

    #[test]
    fn who_comes_second_is_told_who_holds_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory);
        let listener = Listener::bind(&settings).unwrap();
        let error = Listener::bind(&settings).unwrap_err().to_string();
        let me = format!("is held by process {} (`", std::process::id());
        assert!(error.contains(&me) && error.contains("run/xvs.sock"), "{error}");
        // Somebody who knows nothing of the lock.
        drop(listener);
        let _other = UnixListener::bind(&settings.socket).unwrap();
        let error = Listener::bind(&settings).unwrap_err().to_string();
        assert!(error.contains(&me), "{error}");
        assert!(settings.socket.exists(), "the socket of a living process is left alone");
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory);
        fs::create_dir_all(settings.socket.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&settings.socket).unwrap());
        assert!(settings.socket.exists());
        drop(Listener::bind(&settings).unwrap());
        fs::write(&settings.socket, "data").unwrap();
        assert!(matches!(Listener::bind(&settings), Err(BindError::NoSocket(_))));
        assert_eq!(fs::read(&settings.socket).unwrap(), b"data");
    }

    #[test]
    fn of_many_that_come_at_once_one_has_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory);
        for _ in 0..50 {
            let bind = || {
                std::thread::spawn({
                    let settings = settings.clone();
                    move || Listener::bind(&settings)
                })
            };
            let threads: Vec<_> = (0..8).map(|_| bind()).collect();
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let mut listening = results.iter().filter(|result| result.is_ok());
            assert!(listening.next().is_some() && listening.next().is_none());
            let held = |r: &Result<_, _>| matches!(r, Ok(_) | Err(BindError::Held { .. }));
            assert!(results.iter().all(held), "{results:?}");
            std::os::unix::net::UnixStream::connect(&settings.socket).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_said_with_its_cure() {
        let directory = tempfile::tempdir().unwrap();
        let group = Settings { group: Some("no-such-group".into()), ..settings(&directory) };
        assert!(matches!(Listener::bind(&group), Err(BindError::NoGroup(name)) if name == "no-such-group"));
        let open = Settings { listen: Some("127.0.0.1:0".parse().unwrap()), ..settings(&directory) };
        let error = Listener::bind(&open).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:0") && error.contains("token_file"), "{error}");
        let long = Settings { socket: directory.path().join("x".repeat(120)), ..Settings::default() };
        assert!(Listener::bind(&long).unwrap_err().to_string().contains("xxx"));
    }
}
