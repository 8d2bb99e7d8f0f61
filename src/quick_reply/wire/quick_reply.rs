//! Quick replies on the wire.

use super::{MAX_VARIABLES, language, someone};
use crate::error::Error;
use crate::etag::etag;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::fold::fold;
use crate::ids::QuickReplyId;
use crate::inbox::attachment_ids;
use crate::page::PageSize;
use crate::pb;
use crate::quick_reply::content::{Content, Stored, Variant};
use crate::quick_reply::listing::{Order, QuickReplyFilter, ScopeFilter};
use crate::quick_reply::quick_reply::{Edit, NewQuickReply, QuickReply, QuickReplyPatch, Scope};
use crate::quick_reply::template::MAX_TEXT_BYTES;
use crate::quick_reply::variable::{Variable, VariableType, is_name};
use crate::request_id::RequestId;
use crate::time::to_timestamp;

const SHORTCUT: Most = Most::Characters(64);
const TITLE: Most = Most::Characters(256);
const TEXT: Most = Most::Bytes(MAX_TEXT_BYTES);
const QUERY: Most = Most::Characters(256);
const ETAG: Most = Most::Characters(64);
const MAX_VARIANTS: usize = 20;

impl TryFrom<pb::CreateQuickReplyRequest> for NewQuickReply {
    type Error = Error;

    fn try_from(mut request: pb::CreateQuickReplyRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let team_id = someone(&mut fields, "team_id", request.team_id);
        let user_id = someone(&mut fields, "user_id", request.user_id);
        let filter = scope(&mut fields, request.scope, &team_id, &user_id);
        let scope = match (filter, team_id) {
            (ScopeFilter::Team, Some(team)) => Scope::Team(team),
            (ScopeFilter::Team, None) => {
                fields.refuse("team_id", "is required for scope TEAM");
                Scope::Tenant
            }
            (ScopeFilter::User, _) => Scope::User(user_id),
            (ScopeFilter::All | ScopeFilter::Tenant, _) => Scope::Tenant,
        };
        let content = Content {
            shortcut: shortcut(&mut fields, request.shortcut),
            title: fields.text("title", request.title, TITLE),
            text: fields.required_text("text", request.text, TEXT),
            language: tag(&mut fields, request.language),
            variants: Stored(variants(&mut fields, request.variants)),
            variables: Stored(variables(&mut fields, request.variables)),
            metadata: fields.metadata("metadata", request.metadata),
        };
        let attachment_ids = attachment_ids(&mut fields, &request.attachment_ids);
        fields.finish()?;
        Ok(Self {
            request_id,
            scope,
            content,
            attachment_ids,
        })
    }
}

/// Reads a scope, which may be left to the ids beside it.
fn scope(
    fields: &mut Fields,
    number: i32,
    team_id: &Option<String>,
    user_id: &Option<String>,
) -> ScopeFilter {
    let named = match fields.choice::<pb::QuickReplyScope>("scope", number) {
        Some(pb::QuickReplyScope::Tenant) => Some(ScopeFilter::Tenant),
        Some(pb::QuickReplyScope::Team) => Some(ScopeFilter::Team),
        Some(pb::QuickReplyScope::User) => Some(ScopeFilter::User),
        Some(pb::QuickReplyScope::Unspecified) | None => None,
    };
    let meant = match (named, team_id, user_id) {
        (Some(named), _, _) => named,
        (None, Some(_), _) => ScopeFilter::Team,
        (None, None, Some(_)) => ScopeFilter::User,
        (None, None, None) => ScopeFilter::All,
    };
    if team_id.is_some() && meant != ScopeFilter::Team {
        fields.refuse("team_id", "must be left out unless scope is TEAM");
    }
    if user_id.is_some() && meant != ScopeFilter::User {
        fields.refuse("user_id", "must be left out unless scope is USER");
    }
    meant
}

fn shortcut(fields: &mut Fields, shortcut: String) -> String {
    if shortcut.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        fields.refuse("shortcut", "must not contain spaces and control characters");
    }
    fields.required_text("shortcut", shortcut, SHORTCUT)
}

fn tag(fields: &mut Fields, tag: String) -> String {
    let language = language(fields, "language", &tag);
    language.map_or_else(String::new, |language| language.as_str().to_owned())
}

fn variants(fields: &mut Fields, variants: Vec<pb::QuickReplyVariant>) -> Vec<Variant> {
    if variants.len() > MAX_VARIANTS {
        fields.refuse(
            "variants",
            format!("must have at most {MAX_VARIANTS} texts"),
        );
        return Vec::new();
    }
    let mut read = Vec::new();
    for (index, variant) in variants.into_iter().enumerate() {
        let field = format!("variants[{index}].language");
        if variant.language.is_empty() {
            fields.refuse(field.as_str(), "is required");
        }
        let language = language(fields, &field, &variant.language);
        let field = format!("variants[{index}].text");
        let text = fields.required_text(&field, variant.text, TEXT);
        read.extend(language.map(|language| Variant { language, text }));
    }
    read
}

fn variables(fields: &mut Fields, variables: Vec<pb::QuickReplyVariable>) -> Vec<Variable> {
    if variables.len() > MAX_VARIABLES {
        let problem = format!("must have at most {MAX_VARIABLES} variables");
        fields.refuse("variables", problem);
        return Vec::new();
    }
    let mut read = Vec::new();
    for (index, variable) in variables.into_iter().enumerate() {
        let field = |name: &str| format!("variables[{index}].{name}");
        if !is_name(&variable.name) {
            let form = "must be lower-case words joined by dots, 1 to 64 characters";
            fields.refuse(field("name"), form);
        }
        let kind = fields.choice::<pb::QuickReplyVariableType>(&field("type"), variable.r#type);
        let variable_type = kind.and_then(variable_type).unwrap_or(VariableType::Text);
        let fallback = variable.fallback;
        if fallback
            .as_ref()
            .is_some_and(|fallback| !variable_type.accepts(fallback))
        {
            let problem = format!("must be {}", variable_type.form());
            fields.refuse(field("fallback"), problem);
        }
        read.push(Variable {
            name: variable.name,
            variable_type,
            fallback,
        });
    }
    read
}

fn variable_type(variable_type: pb::QuickReplyVariableType) -> Option<VariableType> {
    Some(match variable_type {
        pb::QuickReplyVariableType::Unspecified => return None,
        pb::QuickReplyVariableType::Text => VariableType::Text,
        pb::QuickReplyVariableType::Number => VariableType::Number,
        pb::QuickReplyVariableType::Date => VariableType::Date,
        pb::QuickReplyVariableType::Time => VariableType::Time,
        pb::QuickReplyVariableType::Url => VariableType::Url,
    })
}

/// Reads the id of `GetQuickReply`.
pub fn quick_reply_id(request: &pb::GetQuickReplyRequest) -> Result<QuickReplyId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("quick_reply_id", &request.quick_reply_id, QuickReplyId);
    fields.finish()?;
    Ok(id)
}

/// What `ListQuickReplies` asks for.
pub struct QuickRepliesPage {
    /// Which.
    pub filter: QuickReplyFilter,
    /// In which order.
    pub order: Order,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListQuickRepliesRequest> for QuickRepliesPage {
    type Error = Error;

    fn try_from(mut request: pb::ListQuickRepliesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        // All that is left of the request says which list it is.
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let team_id = someone(&mut fields, "team_id", request.team_id);
        let user_id = someone(&mut fields, "user_id", request.user_id);
        let scope = scope(&mut fields, request.scope, &team_id, &user_id);
        let query = fields.text("query", request.query, QUERY);
        let order = match request.order_by.as_str() {
            "" | "shortcut" => Order::Shortcut,
            "title" => Order::Title,
            "usage_count desc" => Order::MostUsed,
            _ => {
                let known = "must be `shortcut`, `title` or `usage_count desc`";
                fields.refuse("order_by", known);
                Order::Shortcut
            }
        };
        let filter = QuickReplyFilter {
            scope,
            team_id,
            user_id,
            language: language(&mut fields, "language", &request.language),
            words: query.split_whitespace().map(fold).collect(),
            deleted: request.show_deleted,
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

/// Reads what an edit names.
fn edit(fields: &mut Fields, id: &str, etag: String, validate_only: bool) -> Edit {
    let etag = fields.text("etag", etag, ETAG);
    Edit {
        id: fields.required_id("quick_reply_id", id, QuickReplyId),
        etag: (!etag.is_empty()).then_some(etag),
        validate_only,
    }
}

/// Reads `UpdateQuickReply`.
pub fn update(request: pb::UpdateQuickReplyRequest) -> Result<(Edit, QuickReplyPatch), Error> {
    const FIELDS: [&str; 8] = [
        "shortcut",
        "title",
        "text",
        "language",
        "variants",
        "variables",
        "metadata",
        "attachment_ids",
    ];
    let mut fields = Fields::default();
    let edit = edit(&mut fields, &request.quick_reply_id, request.etag, false);
    let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
    let mut patch = QuickReplyPatch::default();
    if mask.touches("shortcut", request.shortcut.is_some()) {
        let given = request.shortcut.unwrap_or_default();
        patch.shortcut = Some(shortcut(&mut fields, given));
    }
    if mask.touches("title", request.title.is_some()) {
        let title = request.title.unwrap_or_default();
        patch.title = Some(fields.text("title", title, TITLE));
    }
    if mask.touches("text", request.text.is_some()) {
        let text = request.text.unwrap_or_default();
        patch.text = Some(fields.required_text("text", text, TEXT));
    }
    if mask.touches("language", request.language.is_some()) {
        patch.language = Some(tag(&mut fields, request.language.unwrap_or_default()));
    }
    if mask.touches("variants", !request.variants.is_empty()) {
        patch.variants = Some(variants(&mut fields, request.variants));
    }
    if mask.touches("variables", !request.variables.is_empty()) {
        patch.variables = Some(variables(&mut fields, request.variables));
    }
    if mask.touches("metadata", request.metadata.is_some()) {
        patch.metadata = Some(fields.metadata("metadata", request.metadata));
    }
    if mask.touches("attachment_ids", !request.attachment_ids.is_empty()) {
        patch.attachment_ids = Some(attachment_ids(&mut fields, &request.attachment_ids));
    }
    fields.finish()?;
    Ok((edit, patch))
}

impl TryFrom<pb::DeleteQuickReplyRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::DeleteQuickReplyRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let (id, only) = (&request.quick_reply_id, request.validate_only);
        let edit = edit(&mut fields, id, request.etag, only);
        fields.finish()?;
        Ok(edit)
    }
}

impl TryFrom<pb::UndeleteQuickReplyRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::UndeleteQuickReplyRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let (id, only) = (&request.quick_reply_id, request.validate_only);
        let edit = edit(&mut fields, id, request.etag, only);
        fields.finish()?;
        Ok(edit)
    }
}

impl From<QuickReply> for pb::QuickReply {
    fn from(quick_reply: QuickReply) -> Self {
        let scope = match (quick_reply.team_id.as_str(), quick_reply.user_id.as_str()) {
            ("", "") => pb::QuickReplyScope::Tenant,
            (_, "") => pb::QuickReplyScope::Team,
            _ => pb::QuickReplyScope::User,
        };
        let content = quick_reply.content;
        let variants = content.variants.0.into_iter();
        let variables = content.variables.0.into_iter();
        Self {
            id: quick_reply.id.into(),
            shortcut: content.shortcut,
            title: content.title,
            text: content.text,
            scope: scope.into(),
            team_id: quick_reply.team_id,
            user_id: quick_reply.user_id,
            language: content.language,
            variants: variants.map(Into::into).collect(),
            variables: variables.map(Into::into).collect(),
            metadata: Some(to_struct(content.metadata)),
            attachments: quick_reply
                .attachments
                .0
                .into_iter()
                .map(Into::into)
                .collect(),
            usage_count: quick_reply.usage_count,
            last_used_time: quick_reply.last_used_at.map(to_timestamp),
            version: quick_reply.version,
            etag: etag(quick_reply.edit_version),
            create_time: Some(to_timestamp(quick_reply.created_at)),
            update_time: Some(to_timestamp(quick_reply.updated_at)),
            delete_time: quick_reply.deleted_at.map(to_timestamp),
        }
    }
}

impl From<Variant> for pb::QuickReplyVariant {
    fn from(variant: Variant) -> Self {
        Self {
            language: variant.language.as_str().to_owned(),
            text: variant.text,
        }
    }
}

impl From<Variable> for pb::QuickReplyVariable {
    fn from(variable: Variable) -> Self {
        let variable_type = match variable.variable_type {
            VariableType::Text => pb::QuickReplyVariableType::Text,
            VariableType::Number => pb::QuickReplyVariableType::Number,
            VariableType::Date => pb::QuickReplyVariableType::Date,
            VariableType::Time => pb::QuickReplyVariableType::Time,
            VariableType::Url => pb::QuickReplyVariableType::Url,
        };
        Self {
            name: variable.name,
            r#type: variable_type.into(),
            fallback: variable.fallback,
        }
    }
}
