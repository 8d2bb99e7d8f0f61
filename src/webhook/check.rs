//! Finds out whether a channel account works, as far as that can be told from here.

use super::quarantine;
use super::webhooks::Webhooks;
use crate::channel::Channel;
use crate::clock;
use crate::error::{Chain, Error};
use crate::guarded_client::Question;
use crate::provider::inquiry::{self, Inquiry, MAX_ANSWER_BYTES};
use crate::tenant::{AccountAccess, ChannelAccount, ChannelSettings};

pub use crate::provider::inquiry::Finding;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Whether the account is connected and not disabled.
    State,
    /// Whether its provider takes what it was given.
    Credentials,
    /// Whether we know the address that its webhooks are signed for.
    Address,
    /// Whether items of its webhooks wait in quarantine.
    Quarantine,
}

/// What was found of one aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub aspect: Aspect,
    /// What was found.
    pub finding: Finding,
}

impl Webhooks {
    /// Finds out whether an account works.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn check_account(&self, account: &ChannelAccount) -> Result<Vec<Check>, Error> {
        let access = self.0.tenants.account_access(account.id).await?;
        let mut checks = vec![Check {
            aspect: Aspect::State,
            finding: state(account),
        }];
        let finding = self.check_credentials(account, &access).await?;
        if matches!(finding, Finding::Passed(_)) && inquiry::proves(&access.settings) {
            self.0.tenants.note_proved(&[account.id]).await?;
        }
        checks.push(Check {
            aspect: Aspect::Credentials,
            finding,
        });
        if let Some(finding) = self.check_address(account.channel) {
            checks.push(Check {
                aspect: Aspect::Address,
                finding,
            });
        }
        let mut conn = self.0.tenants.directory_conn().await?;
        let of = (account.channel, access.settings.route_key());
        let waiting = quarantine::count(&mut conn, access.tenant_id, (of.0, &of.1)).await?;
        let finding = match waiting {
            0 => Finding::Passed("nothing is in quarantine".to_owned()),
            waiting => Finding::Failed(format!(
                "{waiting} items are in quarantine: `ListQuarantinedItems` says why"
            )),
        };
        checks.push(Check {
            aspect: Aspect::Quarantine,
            finding,
        });
        Ok(checks)
    }

    async fn check_credentials(
        &self,
        account: &ChannelAccount,
        access: &AccountAccess,
    ) -> Result<Finding, Error> {
        if matches!(access.settings, ChannelSettings::Gmail(_)) {
            return Ok(self.check_mailbox(access).await);
        }
        let inquiry = match Inquiry::of(access, &self.0.fetchers.interfaces) {
            Ok(inquiry) => inquiry,
            Err(finding) => return Ok(finding),
        };
        let Inquiry {
            url,
            hosts,
            credentials,
        } = &inquiry;
        let (client, question) = (&self.0.client, Question::default());
        let asked = client.call(url, hosts, credentials.as_ref(), question, MAX_ANSWER_BYTES);
        let reply = match asked.await {
            Ok(reply) => reply,
            Err(error) => {
                let words = format!("the provider cannot be asked: {}", Chain(&error));
                return Ok(Finding::Unknown(words));
            }
        };
        let (finding, state) = inquiry::read(&access.settings, reply.status, &reply.body);
        if let Some(state) = state {
            let tenants = &self.0.tenants;
            tenants.note_state(account.id, &state, clock::now()).await?;
        }
        Ok(finding)
    }

    /// Some providers sign for the address that they call.
    fn check_address(&self, channel: Channel) -> Option<Finding> {
        let is_signed = matches!(
            channel,
            Channel::TwilioWhatsapp | Channel::TwilioCall | Channel::Gmail
        );
        is_signed.then(|| match &self.0.public_url {
            Some(url) => Finding::Passed(format!("webhooks are signed for `{url}`")),
            None => Finding::Failed(
                "webhooks are signed for their address: set `COMM_PUBLIC_URL`, or all are refused"
                    .to_owned(),
            ),
        })
    }
}

fn state(account: &ChannelAccount) -> Finding {
    match (account.disconnected_at, account.disabled_at) {
        (Some(_), _) => Finding::Failed(
            "it is disconnected: `ConnectChannelAccount` connects it again".to_owned(),
        ),
        (None, Some(_)) => Finding::Failed(
            "it is disabled, and what comes waits: `EnableChannelAccount` lets it in".to_owned(),
        ),
        (None, None) => Finding::Passed("it is connected".to_owned()),
    }
}
