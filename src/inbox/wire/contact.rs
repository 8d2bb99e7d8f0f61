//! Contacts on the wire.

use crate::access::Actor;
use crate::channel::Channel;
use crate::error::Error;
use crate::etag::etag;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId, ContactMergeId};
use crate::inbox::contact::{ContactFilter, ContactPatch, NewContact, Order, Profile};
use crate::inbox::contact_erasure::ContactErasure;
use crate::inbox::contact_export::Piece;
use crate::inbox::contact_identity::{
    Addition, ContactIdentity, IdentityKind, NewContactIdentity, Removal,
};
use crate::inbox::contact_merge::{Moved, NewMerge};
use crate::inbox::contact_words;
use crate::page::PageSize;
use crate::pb;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

use super::{IDENTIFIER, NAME};

const NOTES: Most = Most::Bytes(16 * 1024);
const LANGUAGE: Most = Most::Characters(35);
const ETAG: Most = Most::Characters(64);
const QUERY: Most = Most::Characters(256);
/// The most words of a query.
const WORDS: usize = 8;
/// The most identities of a new contact.
const IDENTITIES: usize = 20;

impl TryFrom<pb::CreateContactRequest> for NewContact {
    type Error = Error;

    fn try_from(mut request: pb::CreateContactRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        if request.identities.len() > IDENTITIES {
            fields.refuse("identities", format!("must be at most {IDENTITIES}"));
        }
        let identities = request.identities.into_iter().take(IDENTITIES);
        let identities = identities
            .enumerate()
            .map(|(index, new)| identity(&mut fields, format!("identities[{index}]"), new))
            .collect();
        let new = Self {
            request_id,
            name: fields.text("name", request.name, NAME),
            company: fields.text("company", request.company, NAME),
            language: language(&mut fields, request.language),
            notes: fields.text("notes", request.notes, NOTES),
            metadata: fields.metadata("metadata", request.metadata),
            identities,
        };
        fields.finish()?;
        Ok(new)
    }
}

fn language(fields: &mut Fields, tag: String) -> String {
    if !tag
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        fields.refuse("language", "must be a tag of BCP 47, such as `pt-BR`");
    }
    fields.text("language", tag, LANGUAGE)
}

fn identity(fields: &mut Fields, path: String, new: pb::NewContactIdentity) -> NewContactIdentity {
    let at = |field: &str| format!("{path}.{field}");
    let channel = fields.choice::<pb::Channel>(&at("channel"), new.channel);
    let account = &new.channel_account_id;
    let channel_account_id = fields.id(&at("channel_account_id"), account, ChannelAccountId);
    if new.channel == 0 && channel_account_id.is_none() {
        fields.refuse(at("channel"), "is required");
    }
    let kind = fields
        .choice::<pb::ContactIdentityKind>(&at("kind"), new.kind)
        .and_then(kind);
    let value = fields.required_text(&at("value"), new.value, IDENTIFIER);
    match kind {
        Some(IdentityKind::Phone) if !IdentityKind::Phone.fits(&value) => {
            fields.refuse(at("value"), "must be `+` and 5 to 15 digits for kind PHONE");
        }
        Some(IdentityKind::Email) if !IdentityKind::Email.fits(&value) => {
            fields.refuse(at("value"), "must be an address for kind EMAIL");
        }
        _ => {}
    }
    NewContactIdentity {
        channel: channel.and_then(Channel::from_wire),
        channel_account_id,
        kind,
        value,
        path,
    }
}

fn kind(kind: pb::ContactIdentityKind) -> Option<IdentityKind> {
    Some(match kind {
        pb::ContactIdentityKind::Unspecified => return None,
        pb::ContactIdentityKind::Phone => IdentityKind::Phone,
        pb::ContactIdentityKind::Email => IdentityKind::Email,
        pb::ContactIdentityKind::ScopedId => IdentityKind::ScopedId,
        pb::ContactIdentityKind::Username => IdentityKind::Username,
        pb::ContactIdentityKind::Visitor => IdentityKind::Visitor,
        pb::ContactIdentityKind::Other => IdentityKind::Other,
    })
}

/// Reads the id that a call has in its field `contact_id`.
pub fn contact_id(id: &str) -> Result<ContactId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("contact_id", id, ContactId);
    fields.finish()?;
    Ok(id)
}

/// What `ListContacts` asks for.
pub struct ContactsPage {
    /// Which.
    pub filter: ContactFilter,
    /// In which order.
    pub order: Order,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListContactsRequest> for ContactsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListContactsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        // All that is left of the request says which list it is.
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let order = match request.order_by.as_str() {
            "" | "name" => Order::Name,
            "create_time" => Order::OldestFirst,
            "create_time desc" => Order::NewestFirst,
            "update_time desc" => Order::LastChanged,
            _ => {
                fields.refuse(
                    "order_by",
                    "must be `name`, `create_time`, `create_time desc` or `update_time desc`",
                );
                Order::Name
            }
        };
        let query = fields.text("query", request.query, QUERY);
        let words: Vec<String> = contact_words::of(&query).into_iter().collect();
        if words.len() > WORDS {
            fields.refuse("query", format!("must have at most {WORDS} words"));
        }
        if words.is_empty() && !query.trim().is_empty() {
            fields.refuse("query", "must have a letter or a digit");
        }
        let account = &request.channel_account_id;
        let filter = ContactFilter {
            words,
            channel_account_id: fields.id("channel_account_id", account, ChannelAccountId),
            updated_since: fields.time("updated_since_time", request.updated_since_time.as_ref()),
            merged: request.show_merged,
        };
        fields.finish()?;
        Ok(Self {
            filter,
            order,
            size,
            token,
            binding,
        })
    }
}

/// What `UpdateContact` asks for.
pub struct ContactEdit {
    /// Of which contact.
    pub id: ContactId,
    /// Which etag it must have.
    pub etag: Option<String>,
    /// What to change.
    pub patch: ContactPatch,
}

impl TryFrom<pb::UpdateContactRequest> for ContactEdit {
    type Error = Error;

    fn try_from(request: pb::UpdateContactRequest) -> Result<Self, Error> {
        const FIELDS: [&str; 5] = ["name", "company", "language", "notes", "metadata"];
        let mut fields = Fields::default();
        let id = fields.required_id("contact_id", &request.contact_id, ContactId);
        let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
        let mut patch = ContactPatch::default();
        // What is set is checked, whether it is to change or not.
        let texts = [
            ("name", request.name, NAME, &mut patch.name),
            ("company", request.company, NAME, &mut patch.company),
            ("notes", request.notes, NOTES, &mut patch.notes),
        ];
        for (field, text, most, into) in texts {
            let touched = mask.touches(field, text.is_some());
            let text = fields.text(field, text.unwrap_or_default(), most);
            *into = touched.then_some(text);
        }
        let touched = mask.touches("language", request.language.is_some());
        let tag = language(&mut fields, request.language.unwrap_or_default());
        patch.language = touched.then_some(tag);
        if mask.touches("metadata", request.metadata.is_some()) {
            patch.metadata = Some(fields.metadata("metadata", request.metadata));
        }
        let etag = self::given(&mut fields, request.etag);
        fields.finish()?;
        Ok(Self { id, etag, patch })
    }
}

/// Reads an etag that may be left out.
fn given(fields: &mut Fields, etag: String) -> Option<String> {
    let etag = fields.text("etag", etag, ETAG);
    (!etag.is_empty()).then_some(etag)
}

impl TryFrom<pb::AddContactIdentityRequest> for Addition {
    type Error = Error;

    fn try_from(mut request: pb::AddContactIdentityRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let contact_id = fields.required_id("contact_id", &request.contact_id, ContactId);
        let etag = given(&mut fields, request.etag);
        if request.identity.is_none() {
            fields.refuse("identity", "is required");
        }
        let new = request.identity.unwrap_or_default();
        let identity = identity(&mut fields, "identity".to_owned(), new);
        fields.finish()?;
        Ok(Self {
            request_id,
            contact_id,
            etag,
            identity,
        })
    }
}

impl TryFrom<pb::RemoveContactIdentityRequest> for Removal {
    type Error = Error;

    fn try_from(request: pb::RemoveContactIdentityRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let identity = &request.contact_identity_id;
        let removal = Self {
            contact_id: fields.required_id("contact_id", &request.contact_id, ContactId),
            identity_id: fields.required_id("contact_identity_id", identity, ContactIdentityId),
            etag: given(&mut fields, request.etag),
            allow_missing: request.allow_missing,
        };
        fields.finish()?;
        Ok(removal)
    }
}

impl TryFrom<pb::MergeContactsRequest> for NewMerge {
    type Error = Error;

    fn try_from(mut request: pb::MergeContactsRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let (source, target) = (&request.source_contact_id, &request.target_contact_id);
        let new = Self {
            request_id,
            source_id: fields.required_id("source_contact_id", source, ContactId),
            target_id: fields.required_id("target_contact_id", target, ContactId),
            etag: given(&mut fields, request.etag),
        };
        if !source.is_empty() && source == target {
            fields.refuse(
                "target_contact_id",
                "must be another contact than the source",
            );
        }
        fields.finish()?;
        Ok(new)
    }
}

/// Reads the id of `UndoContactMerge`.
pub fn contact_merge_id(request: &pb::UndoContactMergeRequest) -> Result<ContactMergeId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id(
        "contact_merge_id",
        &request.contact_merge_id,
        ContactMergeId,
    );
    fields.finish()?;
    Ok(id)
}

/// What `ListContactMerges` asks for.
pub struct MergesPage {
    /// Of which contact.
    pub contact_id: Option<ContactId>,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

impl TryFrom<pb::ListContactMergesRequest> for MergesPage {
    type Error = Error;

    fn try_from(request: pb::ListContactMergesRequest) -> Result<Self, Error> {
        let size = PageSize::new(request.page_size)?;
        let mut fields = Fields::default();
        let contact_id = fields.id("contact_id", &request.contact_id, ContactId);
        fields.finish()?;
        Ok(Self {
            contact_id,
            size,
            token: request.page_token,
        })
    }
}

impl From<Profile> for pb::Contact {
    fn from(profile: Profile) -> Self {
        let contact = profile.contact;
        Self {
            id: contact.id.into(),
            name: contact.name,
            company: contact.company,
            language: contact.language,
            notes: contact.notes,
            metadata: Some(to_struct(contact.metadata)),
            identities: profile.identities.into_iter().map(Into::into).collect(),
            merged_into_id: contact.merged_into_id.map(Into::into).unwrap_or_default(),
            merge_time: contact.merged_at.map(to_timestamp),
            create_time: Some(to_timestamp(contact.created_at)),
            update_time: Some(to_timestamp(contact.updated_at)),
            version: contact.version,
            etag: etag(contact.edit_version),
        }
    }
}

impl From<ContactIdentity> for pb::ContactIdentity {
    fn from(identity: ContactIdentity) -> Self {
        let kind = match identity.kind {
            IdentityKind::Phone => pb::ContactIdentityKind::Phone,
            IdentityKind::Email => pb::ContactIdentityKind::Email,
            IdentityKind::ScopedId => pb::ContactIdentityKind::ScopedId,
            IdentityKind::Username => pb::ContactIdentityKind::Username,
            IdentityKind::Visitor => pb::ContactIdentityKind::Visitor,
            IdentityKind::Other => pb::ContactIdentityKind::Other,
        };
        Self {
            id: identity.id.into(),
            channel_account_id: identity.channel_account_id.into(),
            channel: pb::Channel::from(identity.channel).into(),
            kind: kind.into(),
            value: identity.value,
            create_time: Some(to_timestamp(identity.created_at)),
        }
    }
}

impl From<Moved> for pb::ContactMerge {
    fn from(moved: Moved) -> Self {
        let merge = moved.merge;
        Self {
            id: merge.id.into(),
            source_contact_id: merge.source_id.into(),
            target_contact_id: merge.target_id.into(),
            contact_identity_ids: moved.identities.into_iter().map(Into::into).collect(),
            actor: Actor::of_kind(&merge.actor_kind, merge.actor_id).map(Into::into),
            caller: merge.caller,
            create_time: Some(to_timestamp(merge.created_at)),
            undo_time: merge.undone_at.map(to_timestamp),
        }
    }
}

impl From<Piece> for pb::ExportContactResponse {
    fn from(piece: Piece) -> Self {
        use pb::export_contact_response::Item;
        let item = match piece {
            Piece::Contact(profile) => Item::Contact(profile.into()),
            Piece::Merge(merge) => Item::Merge(merge.into()),
            Piece::Conversation(conversation) => Item::Conversation((*conversation).into()),
            Piece::Message(message) => Item::Message((*message).into()),
            Piece::Scheduled(scheduled) => Item::ScheduledMessage((*scheduled).into()),
            Piece::Revision(revision) => Item::Revision((*revision).into()),
        };
        Self { item: Some(item) }
    }
}

impl From<ContactErasure> for pb::ContactErasure {
    fn from(erasure: ContactErasure) -> Self {
        Self {
            id: erasure.id.into(),
            contact_id: erasure.contact_id.into(),
            actor: Actor::of_kind(&erasure.actor_kind, erasure.actor_id).map(Into::into),
            caller: erasure.caller,
            create_time: Some(to_timestamp(erasure.created_at)),
            finish_time: erasure.finished_at.map(to_timestamp),
            contact_count: erasure.contacts,
            identity_count: erasure.identities,
            conversation_count: erasure.conversations,
            message_count: erasure.messages,
            answer_count: erasure.answers,
            delivery_count: erasure.deliveries,
            quarantined_item_count: erasure.quarantined_items,
        }
    }
}
