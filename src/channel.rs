//! The channels on which customers write.

use crate::pb;
use crate::stored_enum::stored_enum;

stored_enum! {
    /// Where a conversation takes place.
    Channel {
        /// WhatsApp Business.
        Whatsapp = "whatsapp",
        /// Facebook Messenger.
        Messenger = "messenger",
        /// Instagram Direct.
        Instagram = "instagram",
        /// E-mail.
        Email = "email",
        /// The web chat widget.
        Web = "web",
        /// WhatsApp by Twilio.
        TwilioWhatsapp = "twilio_whatsapp",
        /// Voice by Twilio.
        TwilioCall = "twilio_call",
        /// A personal WhatsApp number.
        PersonalWhatsapp = "personal_whatsapp",
        /// Gmail.
        Gmail = "gmail",
        /// Zendesk.
        Zendesk = "zendesk",
    }
}

impl Channel {
    /// Tells whether one person can have several conversations on an account at once.
    pub fn has_threads(self) -> bool {
        matches!(self, Self::Email | Self::Gmail | Self::Zendesk)
    }

    /// Reads the word of a channel.
    pub fn from_word(word: &str) -> Option<Self> {
        const ALL: [Channel; 10] = [
            Channel::Whatsapp,
            Channel::Messenger,
            Channel::Instagram,
            Channel::Email,
            Channel::Web,
            Channel::TwilioWhatsapp,
            Channel::TwilioCall,
            Channel::PersonalWhatsapp,
            Channel::Gmail,
            Channel::Zendesk,
        ];
        ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    /// Reads a channel; `None` for the unspecified one.
    pub fn from_wire(channel: pb::Channel) -> Option<Self> {
        Some(match channel {
            pb::Channel::Unspecified => return None,
            pb::Channel::Whatsapp => Self::Whatsapp,
            pb::Channel::Messenger => Self::Messenger,
            pb::Channel::Instagram => Self::Instagram,
            pb::Channel::Email => Self::Email,
            pb::Channel::Web => Self::Web,
            pb::Channel::TwilioWhatsapp => Self::TwilioWhatsapp,
            pb::Channel::TwilioCall => Self::TwilioCall,
            pb::Channel::PersonalWhatsapp => Self::PersonalWhatsapp,
            pb::Channel::Gmail => Self::Gmail,
            pb::Channel::Zendesk => Self::Zendesk,
        })
    }
}

impl From<Channel> for pb::Channel {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Whatsapp => Self::Whatsapp,
            Channel::Messenger => Self::Messenger,
            Channel::Instagram => Self::Instagram,
            Channel::Email => Self::Email,
            Channel::Web => Self::Web,
            Channel::TwilioWhatsapp => Self::TwilioWhatsapp,
            Channel::TwilioCall => Self::TwilioCall,
            Channel::PersonalWhatsapp => Self::PersonalWhatsapp,
            Channel::Gmail => Self::Gmail,
            Channel::Zendesk => Self::Zendesk,
        }
    }
}
