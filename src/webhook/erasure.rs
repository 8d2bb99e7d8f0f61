//! Takes what deliveries say of a person out of them, and leaves what they say of others.

use bytes::Bytes;
use diesel_async::AsyncConnection as _;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::delivery::{self, Delivery};
use super::item::read;
use super::quarantine;
use super::verified::kept;
use super::webhooks::Webhooks;
use crate::error::Error;
use crate::ids::{DeliveryId, TenantId};
use crate::tenant::DirectoryConn;

/// From how many bytes on an identifier is looked for inside of texts too: a shorter one is in many
/// that are not about the person.
const TELLING: usize = 8;
/// How many deliveries with items in quarantine are looked up at a time.
const AT_A_TIME: i64 = 100;

/// By what a person is found in deliveries: the identifiers, as providers write them.
pub struct Traces(Vec<String>);

impl Traces {
    /// Looks for somebody of these identifiers.
    pub fn new(identifiers: Vec<String>) -> Self {
        let bare = |identifier: String| identifier.trim_start_matches('+').to_owned();
        Self(identifiers.into_iter().map(bare).collect())
    }

    fn is_in(&self, text: &str) -> bool {
        let bare = text.trim_start_matches('+');
        self.0.iter().any(|identifier| {
            bare == identifier || identifier.len() >= TELLING && text.contains(identifier)
        })
    }

    /// Empties the elements of lists that mention the person, the innermost first; tells whether
    /// there is a mention outside of any list. The lists keep their length, by which items are
    /// numbered.
    fn wipe(&self, value: &mut Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => self.is_in(&number.to_string()),
            Value::String(text) => self.is_in(text),
            Value::Array(elements) => {
                for element in elements {
                    if self.wipe(element) {
                        *element = match element {
                            Value::Object(_) => Value::Object(Map::new()),
                            _ => Value::Null,
                        };
                    }
                }
                false
            }
            Value::Object(fields) => fields.iter_mut().fold(false, |found, (key, value)| {
                self.wipe(value) || self.is_in(key) || found
            }),
        }
    }
}

/// What went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many deliveries lost something, or all.
    pub deliveries: i64,
    /// How many items in quarantine.
    pub quarantined_items: i64,
}

impl Webhooks {
    /// Takes what some deliveries say of a person out of them. Where it is `known` that they are
    /// about the person, one in which nothing can be found goes as a whole.
    pub async fn erase(
        &self,
        deliveries: &[DeliveryId],
        person: &Traces,
        known: bool,
    ) -> Result<Erased, Error> {
        let mut erased = Erased::default();
        for id in deliveries {
            let mut conn = self.0.tenants.directory_conn().await?;
            let items = conn
                .transaction(async |conn| self.erase_one(conn, *id, person, known).await)
                .await?;
            if let Some(items) = items {
                erased.deliveries += 1;
                erased.quarantined_items += items;
            }
        }
        Ok(erased)
    }

    /// Takes what the items in quarantine of a tenant say of a person out of their deliveries.
    pub async fn erase_quarantined(
        &self,
        tenant: TenantId,
        person: &Traces,
    ) -> Result<Erased, Error> {
        let mut all = Erased::default();
        let mut after = DeliveryId(Uuid::nil());
        loop {
            let mut conn = self.0.tenants.directory_conn().await?;
            let found = quarantine::deliveries_of(&mut conn, tenant, after, AT_A_TIME).await?;
            drop(conn);
            let Some(last) = found.last() else {
                return Ok(all);
            };
            after = *last;
            let erased = self.erase(&found, person, false).await?;
            all.deliveries += erased.deliveries;
            all.quarantined_items += erased.quarantined_items;
        }
    }

    /// Returns how many items in quarantine went with it, if anything went.
    async fn erase_one(
        &self,
        conn: &mut DirectoryConn,
        id: DeliveryId,
        person: &Traces,
        known: bool,
    ) -> Result<Option<i64>, Error> {
        let sealer = &self.0.sealer;
        let Some(found) = delivery::lock(conn, sealer, id).await? else {
            return Ok(None);
        };
        let quarantined = quarantine::of_delivery(conn, id).await?;
        let number = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let rest = rest(&found.delivery, person);
        let (body, gone) = match rest {
            Rest::Unmentioned if !known => return Ok(None),
            // It says nothing of others, or it cannot be told apart.
            Rest::Unmentioned | Rest::Nothing => {
                delivery::remove(conn, id).await?;
                return Ok(Some(number(quarantined.len())));
            }
            Rest::Others { body, gone } => (body, gone),
        };
        let gone: Vec<i32> = quarantined
            .iter()
            .filter(|(item, _)| gone.contains(item))
            .map(|(item, _)| *item)
            .collect();
        let waits = |(item, replayed): &(i32, bool)| !replayed && !gone.contains(item);
        if found.done && !quarantined.iter().any(waits) {
            delivery::remove(conn, id).await?;
        } else {
            quarantine::remove(conn, id, &gone).await?;
            delivery::rewrite(conn, sealer, id, body).await?;
        }
        Ok(Some(number(gone.len())))
    }
}

/// What is left of a delivery without a person.
enum Rest {
    /// All of it: the person is not in it.
    Unmentioned,
    /// Nothing that could be read.
    Nothing,
    /// What it says of others.
    Others {
        /// The body.
        body: Vec<u8>,
        /// The numbers of the items that are empty now.
        gone: Vec<i32>,
    },
}

fn rest(delivery: &Delivery, person: &Traces) -> Rest {
    let Ok(mut value) = serde_json::from_slice::<Value>(&delivery.body) else {
        // Of a body that is no JSON, nobody can say what belongs to whom.
        let text = String::from_utf8_lossy(&delivery.body);
        let mentioned = person.0.iter().any(|identifier| text.contains(identifier));
        return if mentioned {
            Rest::Nothing
        } else {
            Rest::Unmentioned
        };
    };
    let whole = value.clone();
    if person.wipe(&mut value) {
        return Rest::Nothing;
    }
    if value == whole {
        return Rest::Unmentioned;
    }
    let body = value.to_string().into_bytes();
    let left = Delivery {
        body: kept(delivery.body.app(), Bytes::from(body.clone())),
        ..delivery.clone()
    };
    match (read(delivery), read(&left)) {
        (Ok(before), Ok(after)) if before.len() == after.len() => Rest::Others {
            body,
            gone: (1..)
                .zip(before.iter().zip(&after))
                .filter(|(_, (before, after))| before != after)
                .map(|(number, _)| number)
                .collect(),
        },
        // A body that could not be read before can be in quarantine as a whole only.
        (Err(_), Err(_)) => Rest::Others { body, gone: vec![] },
        (_, _) => Rest::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_mentions_the_person_is_emptied_and_all_else_keeps_its_place() {
        let person = Traces::new(vec![
            "+15550109911".to_owned(),
            "US.13499900112233".to_owned(),
        ]);
        let mut body = json!({"object": "o", "entry": [{"changes": [{"value": {
            "contacts": [{"wa_id": "15550109911", "profile": {"name": "Dana"}}, {"wa_id": "4930"}],
            "messages": [
                {"from": "4930", "id": "1"},
                {"from_user_id": "US.13499900112233", "id": "2", "text": {"body": "secret"}},
                {"from": "4930", "id": "3", "text": {"body": "call +15550109911"}},
                {"from": "4930", "id": "4", "contacts": [{"phone": 15550109911_u64}, {"phone": 1}]},
            ],
        }}]}]});
        assert!(!person.wipe(&mut body));
        let left = json!({"object": "o", "entry": [{"changes": [{"value": {
            "contacts": [{}, {"wa_id": "4930"}],
            "messages": [
                {"from": "4930", "id": "1"},
                {},
                {},
                {"from": "4930", "id": "4", "contacts": [{}, {"phone": 1}]},
            ],
        }}]}]});
        assert_eq!(body, left);
        assert!(person.wipe(&mut json!({"from": "15550109911"})));
        // A short name is somebody's only where it stands alone.
        let person = Traces::new(vec!["dana".to_owned()]);
        assert!(!person.wipe(&mut json!({"text": "dana was here"})));
        assert!(person.wipe(&mut json!({"username": "dana"})));
    }
}
