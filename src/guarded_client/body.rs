//! Reads media piece by piece, within its limits.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::connection::Answer;
use super::fetch_error::{FetchError, Outage};

/// Media while it comes.
pub struct Reading {
    answer: Answer,
    read: u64,
    max_bytes: u64,
    patience: Duration,
    end: Instant,
}

impl Reading {
    /// Waits for `patience` for the next bytes, and for the last ones until `end`.
    pub fn new(answer: Answer, max_bytes: u64, patience: Duration, end: Instant) -> Self {
        Self {
            answer,
            read: 0,
            max_bytes,
            patience,
            end,
        }
    }

    /// The pieces, in order; after an error there are no more.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, FetchError>> {
        let next = async |mut reading: Self| {
            let piece = reading.next().await?;
            Ok(piece.map(|piece| (piece, reading)))
        };
        stream::try_unfold(self, next).boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let now = Instant::now();
            // A body that always has more would never let a timer go off.
            if now >= self.end {
                return Err(Outage::TooSlow.into());
            }
            let patience = self.end.min(now + self.patience);
            let frame = self.answer.response.body_mut().frame();
            let Ok(frame) = tokio::time::timeout_at(patience, frame).await else {
                let is_end = patience == self.end;
                return Err(if is_end {
                    Outage::TooSlow
                } else {
                    Outage::Stalled
                }
                .into());
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            // Trailers say nothing that is asked.
            if let Ok(piece) = frame.map_err(Outage::Broken)?.into_data() {
                return self.count(piece).map(Some);
            }
        }
    }

    fn count(&mut self, piece: Bytes) -> Result<Bytes, FetchError> {
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.read = self.read.saturating_add(bytes);
        if self.read > self.max_bytes {
            return Err(FetchError::TooLarge {
                limit: self.max_bytes,
            });
        }
        Ok(piece)
    }
}
