//! Refuses calls early when too many are under way, instead of letting all of them wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::call::is_health;
use crate::error::Error;

/// How many calls may be under way at once. A call is under way until its answer begins.
#[derive(Clone)]
pub struct Capacity(Arc<Semaphore>);

impl Capacity {
    /// Room for this many calls.
    pub fn new(calls: u32) -> Self {
        let most = usize::try_from(calls).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }
}

impl<S> Layer<S> for Capacity {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            room: self.0.clone(),
        }
    }
}

/// A service of limited capacity.
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    room: Arc<Semaphore>,
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Who asks how we are gets an answer above all when there is too much to do.
        if is_health(&request) {
            return Answer::Running {
                answer: self.inner.call(request),
                permit: None,
            };
        }
        match self.room.clone().try_acquire_owned() {
            Ok(permit) => Answer::Running {
                answer: self.inner.call(request),
                permit: Some(permit),
            },
            Err(_) => Answer::Refused,
        }
    }
}

pin_project! {
    /// The answer, or the refusal.
    #[project = AnswerState]
    pub enum Answer<F> {
        /// There was room.
        Running {
            #[pin]
            answer: F,
            permit: Option<OwnedSemaphorePermit>,
        },
        /// There was none.
        Refused,
    }
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerState::Running { answer, permit } => {
                let answer = ready!(answer.poll(context));
                *permit = None;
                Poll::Ready(answer)
            }
            AnswerState::Refused => Poll::Ready(Ok(Status::from(Error::TooManyCalls).into_http())),
        }
    }
}
