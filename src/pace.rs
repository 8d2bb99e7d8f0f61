//! A request whose body goes on and on: it has to keep coming, and to end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use crate::error::Error;

pin_project! {
    /// A body that fails when nothing of it comes for too long, when it takes too long as a whole,
    /// and when it breaks off.
    ///
    /// Without this, a call that its caller has cancelled looks like one whose body has ended.
    pub struct Paced {
        #[pin]
        body: Body,
        #[pin]
        timer: Sleep,
        waiting: bool,
        ended: bool,
        patience: Duration,
        end: Instant,
        // By HTTP/1, a body that breaks off is told from one that ends.
        tells_end: bool,
    }
}

impl Paced {
    /// Waits for `patience` for the next bytes, and for the last ones until `end`.
    pub fn new(body: Body, version: Version, patience: Duration, end: Instant) -> Self {
        Self {
            body,
            timer: tokio::time::sleep_until(end),
            waiting: false,
            ended: false,
            patience,
            end,
            tells_end: version == Version::HTTP_2,
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let late = || Poll::Ready(Some(Err(Error::DeadlineExceeded.into())));
        match this.body.as_mut().poll_frame(context) {
            Poll::Ready(Some(Ok(_))) if Instant::now() > *this.end => {
                *this.ended = true;
                late()
            }
            Poll::Ready(Some(Ok(frame))) => {
                *this.waiting = false;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) if !*this.tells_end || this.body.is_end_stream() => {
                *this.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(_) => {
                *this.ended = true;
                // Not CANCELLED, which counts as an end.
                Poll::Ready(Some(Err(Status::aborted("the request has broken off"))))
            }
            Poll::Pending => {
                if !*this.waiting {
                    *this.waiting = true;
                    let patience = Instant::now() + *this.patience;
                    this.timer.as_mut().reset(patience.min(*this.end));
                }
                std::task::ready!(this.timer.poll(context));
                *this.ended = true;
                late()
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
