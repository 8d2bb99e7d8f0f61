//! What the webhooks of the Cloud API say of the account itself.

use serde_json::Value;

use crate::provider::lenient::{id, text};
use crate::webhook::Content;

/// The fields that are about the account, its templates and its groups, and not about what customers
/// and the business tell each other.
const FIELDS: [&str; 27] = [
    "account_alerts",
    "account_review_update",
    "account_settings_update",
    "automatic_events",
    "business_capability_update",
    "business_status_update",
    "calls",
    "flows",
    "group_lifecycle_update",
    "group_participants_update",
    "group_settings_update",
    "group_status_update",
    "history",
    "message_template_components_update",
    "message_template_quality_update",
    "message_template_status_update",
    "messaging_handovers",
    "partner_solutions",
    "payment_configuration_update",
    "phone_number_name_update",
    "phone_number_quality_update",
    "security",
    "smb_app_state_sync",
    "template_category_update",
    "template_correct_category_detection",
    "tracking_events",
    "user_preferences",
];

/// What a change of another field than messages is: nothing for us, or what nobody has foreseen,
/// which is kept to be looked at.
pub fn of_field(field: &str) -> Content {
    if FIELDS.contains(&field) {
        Content::Ignored("other_field")
    } else {
        Content::Unsupported(format!("the field `{field}`"))
    }
}

/// What became of a business account, such as that it is banned.
pub fn state(entry: &Value, value: &Value) -> Content {
    let words = [
        "/ban_info/waba_ban_state",
        "/restriction_info/0/restriction_type",
        "/event",
    ];
    let mut states = words.map(|path| text(value, path)).into_iter();
    let state = states.find(|state| !state.is_empty());
    let (Some(business_account), Some(state)) = (id(entry, "/id"), state) else {
        return Content::Unreadable("`account_update` without an event".to_owned());
    };
    Content::BusinessState {
        business_account,
        state,
    }
}
