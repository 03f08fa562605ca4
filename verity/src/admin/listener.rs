//! Where the admin API listens: plain on loopback, over TLS where strangers may come by.
//!
//! - upon a connection that is to be encrypted: its handshake is a task of its own, so that one that never ends holds up
//!   nobody; at most [`HANDSHAKES_MAX`] are under way, and none for longer than [`HANDSHAKE_WAIT`].
//!
//! Deliberately absent: who may do what. The token says so.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use verity_node::ServerTls;

use crate::admin::Admin;

/// Handshakes that are under way at once.
const HANDSHAKES_MAX: usize = 64;
/// A client that has not finished its handshake within this is cut off.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Out of file descriptors, most likely: some connections may end in this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the admin API of a node is served.
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: Admin,
    /// Encrypted, if set.
    pub(crate) tls: Option<ServerTls>,
}

/// Both directions of a stream.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An encrypted stream.
pub(super) struct Encrypted(Box<dyn Duplex>);

/// Encrypted streams whose handshakes are done.
pub(super) struct TlsListener {
    addr: SocketAddr,
    done: mpsc::Receiver<(Encrypted, SocketAddr)>,
}

impl TlsListener {
    /// Begins to accept. It ends when this listener is dropped.
    pub(super) fn start(listener: TcpListener, tls: ServerTls) -> io::Result<Self> {
        let (ready, done) = mpsc::channel(1);
        let addr = listener.local_addr()?;
        tokio::spawn(async move {
            let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
            while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
                let (tcp, from) = tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept an administrator");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    },
                    () = ready.closed() => break,
                };
                let (tls, ready) = (tls.clone(), ready.clone());
                tokio::spawn(async move {
                    if let Some(stream) = shake_hands(&tls, tcp, from).await {
                        // A server that has stopped takes nobody.
                        let _ = ready.send((stream, from)).await;
                    }
                    drop(permit);
                });
            }
        });
        Ok(Self { addr, done })
    }
}

async fn shake_hands(tls: &ServerTls, tcp: TcpStream, from: SocketAddr) -> Option<Encrypted> {
    match tokio::time::timeout(HANDSHAKE_WAIT, tls.accept(tcp)).await {
        Ok(Ok((stream, _))) => Some(Encrypted(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "an administrator's TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = Encrypted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(accepted) => accepted,
            // Whoever accepts has ended with the process's last moments; nobody comes any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.addr)
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
