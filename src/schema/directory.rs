// Made by `make schema` from migrations/directory; never edited.

diesel::table! {
    directory.installation (singleton) {
        singleton -> Bool,
        id -> Uuid,
        epoch -> Int8,
        key_check -> Bytea,
        role_name -> Text,
        role_password -> Bytea,
        created_at -> Timestamptz,
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
    }
}

diesel::allow_tables_to_appear_in_same_query!(installation, tenants,);
