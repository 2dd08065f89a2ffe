//! What comes out of a node by itself: events, and datagrams of another protocol.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::BroadcastStream;

use crate::proto::engine::Event;

/// The events of a node, as a stream. A subscriber that falls more than 1,024 events behind gets [`Lagged`].
#[derive(Debug)]
pub struct Events(pub(super) BroadcastStream<Event>);

/// How many events a slow subscriber has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed")]
pub struct Lagged(pub u64);

/// Datagrams that are not discv4, from a socket that another protocol shares.
#[derive(Debug)]
pub struct Foreign(pub(super) mpsc::Receiver<(SocketAddr, Bytes)>);

impl Stream for Events {
    type Item = Result<Event, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged as Missed;
        Pin::new(&mut self.0).poll_next(cx).map(|item| item.map(|item| item.map_err(|Missed(count)| Lagged(count))))
    }
}

impl Events {
    /// The next event; `None` when the node has ended.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Foreign {
    /// The next datagram and who sent it; `None` when the node has ended or another caller reads them now.
    pub async fn recv(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.0.recv().await
    }
}
