// Made by `make schema` from migrations/directory; never edited.

diesel::table! {
    directory.alarms (tenant_id, due_at) {
        tenant_id -> Uuid,
        due_at -> Timestamptz,
        leased_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    directory.channel_accounts (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        app_id -> Uuid,
        channel -> Text,
        route_key -> Text,
        name -> Text,
        settings -> Jsonb,
        secrets -> Bytea,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        disconnected_at -> Nullable<Timestamptz>,
        disabled_at -> Nullable<Timestamptz>,
        provider_state -> Text,
        provider_state_at -> Nullable<Timestamptz>,
        proved_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    directory.deliveries (id) {
        id -> Uuid,
        app_id -> Uuid,
        channel -> Text,
        headers -> Jsonb,
        body -> Bytea,
        correlation_id -> Text,
        attempts -> Int4,
        received_at -> Timestamptz,
        due_at -> Nullable<Timestamptz>,
        lease -> Nullable<Uuid>,
        last_error -> Nullable<Text>,
        provider -> Text,
        account_id -> Nullable<Uuid>,
        route_prefix -> Text,
    }
}

diesel::table! {
    directory.installation (singleton) {
        singleton -> Bool,
        id -> Uuid,
        epoch -> Int8,
        key_check -> Bytea,
        role_name -> Text,
        role_password -> Bytea,
        created_at -> Timestamptz,
        purged_epoch -> Int8,
    }
}

diesel::table! {
    directory.mailboxes (account_id) {
        account_id -> Uuid,
        cursor -> Nullable<Int8>,
        watched_at -> Nullable<Timestamptz>,
        due_at -> Timestamptz,
        lease -> Nullable<Uuid>,
        leased_until -> Nullable<Timestamptz>,
        failures -> Int4,
    }
}

diesel::table! {
    directory.provider_apps (id) {
        id -> Uuid,
        provider -> Text,
        external_id -> Text,
        tenant_id -> Nullable<Uuid>,
        secrets -> Bytea,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        previous_expires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    directory.purged_files (tenant_id) {
        tenant_id -> Uuid,
        purged_at -> Timestamptz,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    directory.quarantine (delivery_id, item) {
        delivery_id -> Uuid,
        item -> Int4,
        tenant_id -> Nullable<Uuid>,
        channel -> Text,
        route_key -> Text,
        reason -> Text,
        detail -> Text,
        created_at -> Timestamptz,
        replayed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    directory.tenants (id) {
        id -> Uuid,
        number -> Int4,
        slug -> Text,
        schema_name -> Text,
        role_name -> Nullable<Text>,
        role_password -> Nullable<Bytea>,
        isolation -> Text,
        state -> Text,
        schema_version -> Text,
        epoch -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        edit_version -> Int8,
        suspended_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        purge_at -> Nullable<Timestamptz>,
        cleaned_at -> Timestamptz,
    }
}

diesel::joinable!(alarms -> tenants (tenant_id));
diesel::joinable!(channel_accounts -> provider_apps (app_id));
diesel::joinable!(channel_accounts -> tenants (tenant_id));
diesel::joinable!(deliveries -> provider_apps (app_id));
diesel::joinable!(mailboxes -> channel_accounts (account_id));
diesel::joinable!(provider_apps -> tenants (tenant_id));
diesel::joinable!(quarantine -> deliveries (delivery_id));
diesel::joinable!(quarantine -> tenants (tenant_id));

diesel::allow_tables_to_appear_in_same_query!(
    alarms,
    channel_accounts,
    deliveries,
    installation,
    mailboxes,
    provider_apps,
    purged_files,
    quarantine,
    tenants,
);
