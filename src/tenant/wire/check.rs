//! What was found of channel accounts, on the wire.

use crate::pb;
use crate::webhook::{Aspect, Check, Finding};

impl From<Check> for pb::ChannelAccountCheck {
    fn from(check: Check) -> Self {
        let aspect = match check.aspect {
            Aspect::State => pb::ChannelAccountAspect::State,
            Aspect::Credentials => pb::ChannelAccountAspect::Credentials,
            Aspect::Address => pb::ChannelAccountAspect::Address,
            Aspect::Quarantine => pb::ChannelAccountAspect::Quarantine,
        };
        let (verdict, description) = match check.finding {
            Finding::Passed(words) => (pb::ChannelAccountVerdict::Passed, words),
            Finding::Failed(words) => (pb::ChannelAccountVerdict::Failed, words),
            Finding::Unknown(words) => (pb::ChannelAccountVerdict::Unknown, words),
        };
        Self {
            aspect: aspect.into(),
            verdict: verdict.into(),
            description,
        }
    }
}
