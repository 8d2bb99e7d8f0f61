//! Personal WhatsApp numbers behind gateways, which WhatsApp does not sanction.

mod address;
mod evolution;
mod waha;

pub use evolution::items as evolution_items;
pub use waha::items as waha_items;
