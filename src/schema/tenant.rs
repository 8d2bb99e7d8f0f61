// Made by `make schema` from migrations/tenant; never edited.

diesel::table! {
    agents (id) {
        id -> Uuid,
        user_id -> Text,
        is_available -> Bool,
        capacity -> Nullable<Int4>,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    attachments (id) {
        id -> Uuid,
        state -> Text,
        message_id -> Nullable<Uuid>,
        file_name -> Text,
        content_type -> Text,
        size_bytes -> Nullable<Int8>,
        sha256 -> Nullable<Text>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        created_at -> Timestamptz,
        quick_reply_id -> Nullable<Uuid>,
        failure -> Nullable<Text>,
        content_id -> Nullable<Text>,
        of_chat -> Bool,
        chat_entry_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    audit_log (id) {
        id -> Uuid,
        call -> Text,
        resource_kind -> Text,
        resource_id -> Nullable<Uuid>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    business_hours (id) {
        id -> Uuid,
        team_id -> Text,
        time_zone -> Text,
        intervals -> Jsonb,
        holidays -> Array<Nullable<Date>>,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    channel_account_agents (channel_account_id, agent_id) {
        channel_account_id -> Uuid,
        agent_id -> Uuid,
        position -> Int4,
        turn -> Int8,
    }
}

diesel::table! {
    channel_accounts (id) {
        id -> Uuid,
        channel -> Text,
        name -> Text,
        is_default -> Bool,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
        reopen_policy -> Text,
        reopen_days -> Nullable<Int4>,
        routing -> Text,
        routing_assignee_id -> Nullable<Text>,
        routing_team_id -> Nullable<Text>,
        policy_version -> Int8,
    }
}

diesel::table! {
    channel_members (id) {
        id -> Uuid,
        channel_id -> Uuid,
        user_id -> Text,
        role -> Text,
        notification_level -> Text,
        muted -> Bool,
        joined_sequence -> Int8,
        read_sequence -> Int8,
        read_version -> Int8,
        version -> Int8,
        joined_at -> Timestamptz,
        updated_at -> Timestamptz,
        left_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    channels (id) {
        id -> Uuid,
        kind -> Text,
        name -> Text,
        name_key -> Text,
        topic -> Text,
        metadata -> Jsonb,
        conversation_id -> Nullable<Uuid>,
        user_ids -> Array<Nullable<Text>>,
        users_hash -> Nullable<Bytea>,
        posting_policy -> Text,
        broadcast_policy -> Text,
        invite_policy -> Text,
        retention_days -> Int4,
        member_count -> Int4,
        removals -> Int8,
        last_sequence -> Int8,
        last_entry_at -> Nullable<Timestamptz>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        version -> Int8,
        edit_version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        archived_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    chat_entries (id) {
        id -> Uuid,
        channel_id -> Uuid,
        sequence -> Int8,
        thread_root_id -> Nullable<Uuid>,
        #[sql_name = "type"]
        type_ -> Text,
        text -> Text,
        metadata -> Jsonb,
        mentioned_user_ids -> Array<Nullable<Text>>,
        mentions_everyone -> Bool,
        mentions_here -> Bool,
        reply_count -> Int4,
        last_reply_sequence -> Int8,
        last_reply_at -> Nullable<Timestamptz>,
        author_kind -> Text,
        author_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        edits -> Int4,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        edited_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        reactions -> Jsonb,
        pinned_at -> Nullable<Timestamptz>,
        pinned_by_kind -> Nullable<Text>,
        pinned_by_id -> Nullable<Text>,
        attachments -> Nullable<Jsonb>,
    }
}

diesel::table! {
    chat_entry_revisions (chat_entry_id, number) {
        chat_entry_id -> Uuid,
        number -> Int4,
        text -> Text,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    chat_reactions (chat_entry_id, emoji, user_id) {
        chat_entry_id -> Uuid,
        emoji -> Text,
        user_id -> Text,
        number -> Int4,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    contact_erasures (id) {
        id -> Uuid,
        contact_id -> Uuid,
        identifiers -> Array<Nullable<Text>>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        contacts -> Int8,
        identities -> Int8,
        conversations -> Int8,
        messages -> Int8,
        answers -> Int8,
        deliveries -> Int8,
        quarantined_items -> Int8,
    }
}

diesel::table! {
    contact_identities (id) {
        id -> Uuid,
        contact_id -> Uuid,
        channel_account_id -> Uuid,
        value -> Text,
        created_at -> Timestamptz,
        kind -> Text,
    }
}

diesel::table! {
    contact_merge_identities (merge_id, identity_id) {
        merge_id -> Uuid,
        identity_id -> Uuid,
    }
}

diesel::table! {
    contact_merges (id) {
        id -> Uuid,
        source_id -> Uuid,
        target_id -> Uuid,
        filled -> Array<Nullable<Text>>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        created_at -> Timestamptz,
        undone_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    contact_words (word, contact_id) {
        word -> Text,
        contact_id -> Uuid,
    }
}

diesel::table! {
    contacts (id) {
        id -> Uuid,
        name -> Text,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
        company -> Text,
        language -> Text,
        notes -> Text,
        metadata -> Jsonb,
        name_folded -> Text,
        edit_version -> Int8,
        merged_into_id -> Nullable<Uuid>,
        merged_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    conversation_changes (id) {
        id -> Int8,
        conversation_id -> Uuid,
        kind -> Text,
        rule -> Text,
        sequence -> Nullable<Int8>,
        changed -> Array<Nullable<Text>>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        at -> Timestamptz,
        old_status -> Nullable<Text>,
        status -> Text,
        old_priority -> Nullable<Text>,
        priority -> Text,
        old_assignee_id -> Nullable<Text>,
        assignee_id -> Nullable<Text>,
        old_team_id -> Nullable<Text>,
        team_id -> Nullable<Text>,
        old_labels -> Nullable<Array<Nullable<Text>>>,
        labels -> Array<Nullable<Text>>,
        old_snoozed_until -> Nullable<Timestamptz>,
        snoozed_until -> Nullable<Timestamptz>,
        was_qualified -> Bool,
        is_qualified -> Bool,
        was_unread -> Bool,
        is_unread -> Bool,
        was_waiting -> Bool,
        is_waiting -> Bool,
        episode -> Int4,
        episode_started_at -> Timestamptz,
        waited_since -> Nullable<Timestamptz>,
        is_first_response -> Bool,
    }
}

diesel::table! {
    conversation_merges (id) {
        id -> Uuid,
        source_conversation_id -> Uuid,
        target_conversation_id -> Uuid,
        source_status -> Text,
        source_archived_at -> Nullable<Timestamptz>,
        source_snoozed_until -> Nullable<Timestamptz>,
        source_waiting_since -> Nullable<Timestamptz>,
        actor_kind -> Text,
        actor_id -> Text,
        created_at -> Timestamptz,
        undone_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    conversation_read_marks (conversation_id, user_id) {
        conversation_id -> Uuid,
        user_id -> Text,
        sequence -> Int8,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    conversation_words (word, conversation_id) {
        word -> Text,
        conversation_id -> Uuid,
    }
}

diesel::table! {
    events (id) {
        id -> Int8,
        event_id -> Uuid,
        kind -> Text,
        resource_kind -> Text,
        resource_id -> Uuid,
        parent_id -> Nullable<Uuid>,
        sequence -> Nullable<Int8>,
        version -> Int8,
        changed -> Array<Nullable<Text>>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    inbox_conversations (id) {
        id -> Uuid,
        number -> Int8,
        contact_identity_id -> Uuid,
        channel -> Text,
        thread_key -> Text,
        status -> Text,
        priority -> Text,
        subject -> Text,
        metadata -> Jsonb,
        last_sequence -> Int8,
        last_message_at -> Timestamptz,
        version -> Int8,
        edit_version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        archived_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        assignee_id -> Nullable<Text>,
        team_id -> Nullable<Text>,
        assigned_at -> Nullable<Timestamptz>,
        qualified_at -> Nullable<Timestamptz>,
        qualified_by_kind -> Nullable<Text>,
        qualified_by_id -> Nullable<Text>,
        lead_score -> Nullable<Int4>,
        lead_notes -> Nullable<Text>,
        labels -> Array<Nullable<Text>>,
        snoozed_until -> Nullable<Timestamptz>,
        waiting_since -> Nullable<Timestamptz>,
        last_inbound_sequence -> Int8,
        read_sequence -> Int8,
        episode -> Int4,
        episode_started_at -> Nullable<Timestamptz>,
        first_replied_at -> Nullable<Timestamptz>,
        previous_conversation_id -> Nullable<Uuid>,
        merged_into_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    inbox_message_words_backfill (before_id) {
        before_id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    inbox_messages (id) {
        id -> Uuid,
        conversation_id -> Uuid,
        sequence -> Int8,
        direction -> Text,
        #[sql_name = "type"]
        type_ -> Text,
        text -> Text,
        latitude -> Nullable<Float8>,
        longitude -> Nullable<Float8>,
        location_name -> Nullable<Text>,
        location_address -> Nullable<Text>,
        status -> Nullable<Text>,
        failure_code -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        reply_to_message_id -> Nullable<Uuid>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        metadata -> Jsonb,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        sent_at -> Nullable<Timestamptz>,
        delivered_at -> Nullable<Timestamptz>,
        read_at -> Nullable<Timestamptz>,
        failed_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        provider_at -> Nullable<Timestamptz>,
        attachments -> Nullable<Jsonb>,
        edits -> Int4,
        edited_at -> Nullable<Timestamptz>,
        provider_edit -> Nullable<Int8>,
        reply_to_provider_id -> Nullable<Text>,
        imported -> Bool,
        tries -> Int4,
        reactions -> Jsonb,
    }
}

diesel::table! {
    inbox_quick_replies (id) {
        id -> Uuid,
        shortcut -> Text,
        title -> Text,
        text -> Text,
        metadata -> Jsonb,
        usage_count -> Int8,
        version -> Int8,
        edit_version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
        team_id -> Text,
        user_id -> Text,
        shortcut_key -> Text,
        title_key -> Text,
        folded -> Text,
        language -> Text,
        languages -> Array<Nullable<Text>>,
        variants -> Jsonb,
        variables -> Jsonb,
        last_used_at -> Nullable<Timestamptz>,
        attachments -> Jsonb,
    }
}

diesel::table! {
    inbox_quick_reply_uses (id) {
        id -> Uuid,
        quick_reply_id -> Uuid,
        conversation_id -> Nullable<Uuid>,
        message_id -> Nullable<Uuid>,
        language -> Text,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        used_at -> Timestamptz,
    }
}

diesel::table! {
    media_fetches (attachment_id) {
        attachment_id -> Uuid,
        channel_account_id -> Uuid,
        delivery_id -> Uuid,
        source -> Jsonb,
        attempts -> Int4,
        due_at -> Timestamptz,
        lease -> Nullable<Uuid>,
    }
}

diesel::table! {
    mentions (chat_entry_id, user_id) {
        chat_entry_id -> Uuid,
        user_id -> Text,
        channel_id -> Uuid,
        sequence -> Int8,
        thread_root_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    message_amendments (channel_account_id, provider_id, kind, occurrence) {
        channel_account_id -> Uuid,
        provider_id -> Text,
        kind -> Text,
        occurrence -> Text,
        place -> Int8,
        text -> Text,
        identifiers -> Array<Nullable<Text>>,
        delivery_id -> Uuid,
        created_at -> Timestamptz,
        applied_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    message_attempts (message_id, number) {
        message_id -> Uuid,
        number -> Int4,
        outcome -> Nullable<Text>,
        failure_code -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        started_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    message_imports (channel_account_id, import_id) {
        channel_account_id -> Uuid,
        import_id -> Text,
        message_id -> Uuid,
    }
}

diesel::table! {
    message_revisions (message_id, number) {
        message_id -> Uuid,
        number -> Int4,
        kind -> Text,
        text -> Text,
        latitude -> Nullable<Float8>,
        longitude -> Nullable<Float8>,
        location_name -> Nullable<Text>,
        location_address -> Nullable<Text>,
        metadata -> Nullable<Jsonb>,
        redacted_at -> Nullable<Timestamptz>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    parked_receipts (channel_account_id, provider_id, status) {
        channel_account_id -> Uuid,
        provider_id -> Text,
        status -> Text,
        at -> Nullable<Timestamptz>,
        failure_code -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    provider_events (channel_account_id, provider_id, kind, occurrence) {
        channel_account_id -> Uuid,
        provider_id -> Text,
        kind -> Text,
        occurrence -> Text,
        message_id -> Nullable<Uuid>,
        delivery_id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    receipt_watermarks (channel_account_id, identifier, status) {
        channel_account_id -> Uuid,
        identifier -> Text,
        status -> Text,
        until -> Timestamptz,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    requests (caller, method, request_id) {
        caller -> Text,
        method -> Text,
        request_id -> Text,
        request_hash -> Bytea,
        response -> Jsonb,
        created_at -> Timestamptz,
        message_ids -> Nullable<Array<Nullable<Uuid>>>,
    }
}

diesel::table! {
    scheduled_entries (id) {
        id -> Uuid,
        channel_id -> Uuid,
        thread_root_id -> Nullable<Uuid>,
        #[sql_name = "type"]
        type_ -> Text,
        text -> Text,
        metadata -> Jsonb,
        attachment_ids -> Array<Nullable<Uuid>>,
        mentioned_user_ids -> Array<Nullable<Text>>,
        mentions_everyone -> Bool,
        mentions_here -> Bool,
        send_at -> Timestamptz,
        failure_reason -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        author_kind -> Text,
        author_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    scheduled_messages (id) {
        id -> Uuid,
        conversation_id -> Uuid,
        direction -> Text,
        #[sql_name = "type"]
        type_ -> Text,
        text -> Text,
        latitude -> Nullable<Float8>,
        longitude -> Nullable<Float8>,
        location_name -> Nullable<Text>,
        location_address -> Nullable<Text>,
        reply_to_message_id -> Nullable<Uuid>,
        metadata -> Jsonb,
        attachment_ids -> Array<Nullable<Uuid>>,
        send_at -> Timestamptz,
        failure_reason -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        actor_kind -> Text,
        actor_id -> Text,
        caller -> Text,
        correlation_id -> Text,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    statistics_folds (generation) {
        generation -> Int4,
        is_current -> Bool,
        position -> Int8,
        hours -> Jsonb,
        changes_position -> Nullable<Int8>,
        messages_at -> Nullable<Timestamptz>,
        differences -> Nullable<Int8>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        time_zones -> Array<Nullable<Text>>,
    }
}

diesel::table! {
    statistics_rollups (generation, facet, grain, bucket, value) {
        generation -> Int4,
        facet -> Text,
        grain -> Int2,
        bucket -> Timestamptz,
        value -> Text,
        counts -> Nullable<Bytea>,
        wall -> Nullable<Bytea>,
        business -> Nullable<Bytea>,
    }
}

diesel::table! {
    statistics_states (generation, label, status, channel_account_id, assignee_id, team_id, priority, is_qualified, is_unread, is_waiting, is_snoozed) {
        generation -> Int4,
        label -> Text,
        status -> Text,
        channel_account_id -> Uuid,
        assignee_id -> Text,
        team_id -> Text,
        priority -> Text,
        is_qualified -> Bool,
        is_unread -> Bool,
        is_waiting -> Bool,
        is_snoozed -> Bool,
        conversations -> Int8,
    }
}

diesel::table! {
    statistics_time_zones (time_zone) {
        time_zone -> Text,
        asked_at -> Timestamptz,
    }
}

diesel::table! {
    thread_follows (id) {
        id -> Uuid,
        chat_entry_id -> Uuid,
        user_id -> Text,
        channel_id -> Uuid,
        following -> Bool,
        read_sequence -> Int8,
        read_version -> Int8,
        version -> Int8,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    thread_states (channel_account_id, thread_key) {
        channel_account_id -> Uuid,
        thread_key -> Text,
        archived -> Bool,
        changed_at -> Timestamptz,
    }
}

diesel::joinable!(attachments -> chat_entries (chat_entry_id));
diesel::joinable!(attachments -> inbox_messages (message_id));
diesel::joinable!(attachments -> inbox_quick_replies (quick_reply_id));
diesel::joinable!(channel_account_agents -> agents (agent_id));
diesel::joinable!(channel_account_agents -> channel_accounts (channel_account_id));
diesel::joinable!(channel_members -> channels (channel_id));
diesel::joinable!(channels -> inbox_conversations (conversation_id));
diesel::joinable!(chat_entries -> channels (channel_id));
diesel::joinable!(chat_entry_revisions -> chat_entries (chat_entry_id));
diesel::joinable!(chat_reactions -> chat_entries (chat_entry_id));
diesel::joinable!(contact_erasures -> contacts (contact_id));
diesel::joinable!(contact_identities -> channel_accounts (channel_account_id));
diesel::joinable!(contact_identities -> contacts (contact_id));
diesel::joinable!(contact_merge_identities -> contact_identities (identity_id));
diesel::joinable!(contact_merge_identities -> contact_merges (merge_id));
diesel::joinable!(contact_words -> contacts (contact_id));
diesel::joinable!(conversation_changes -> inbox_conversations (conversation_id));
diesel::joinable!(conversation_read_marks -> inbox_conversations (conversation_id));
diesel::joinable!(conversation_words -> inbox_conversations (conversation_id));
diesel::joinable!(inbox_conversations -> contact_identities (contact_identity_id));
diesel::joinable!(inbox_messages -> inbox_conversations (conversation_id));
diesel::joinable!(inbox_quick_reply_uses -> inbox_conversations (conversation_id));
diesel::joinable!(inbox_quick_reply_uses -> inbox_messages (message_id));
diesel::joinable!(inbox_quick_reply_uses -> inbox_quick_replies (quick_reply_id));
diesel::joinable!(media_fetches -> attachments (attachment_id));
diesel::joinable!(mentions -> chat_entries (chat_entry_id));
diesel::joinable!(message_amendments -> channel_accounts (channel_account_id));
diesel::joinable!(message_attempts -> inbox_messages (message_id));
diesel::joinable!(message_imports -> channel_accounts (channel_account_id));
diesel::joinable!(message_imports -> inbox_messages (message_id));
diesel::joinable!(message_revisions -> inbox_messages (message_id));
diesel::joinable!(parked_receipts -> channel_accounts (channel_account_id));
diesel::joinable!(provider_events -> channel_accounts (channel_account_id));
diesel::joinable!(provider_events -> inbox_messages (message_id));
diesel::joinable!(receipt_watermarks -> channel_accounts (channel_account_id));
diesel::joinable!(scheduled_entries -> channels (channel_id));
diesel::joinable!(scheduled_messages -> inbox_conversations (conversation_id));
diesel::joinable!(thread_follows -> chat_entries (chat_entry_id));
diesel::joinable!(thread_states -> channel_accounts (channel_account_id));

diesel::allow_tables_to_appear_in_same_query!(
    agents,
    attachments,
    audit_log,
    business_hours,
    channel_account_agents,
    channel_accounts,
    channel_members,
    channels,
    chat_entries,
    chat_entry_revisions,
    chat_reactions,
    contact_erasures,
    contact_identities,
    contact_merge_identities,
    contact_merges,
    contact_words,
    contacts,
    conversation_changes,
    conversation_merges,
    conversation_read_marks,
    conversation_words,
    events,
    inbox_conversations,
    inbox_message_words_backfill,
    inbox_messages,
    inbox_quick_replies,
    inbox_quick_reply_uses,
    media_fetches,
    mentions,
    message_amendments,
    message_attempts,
    message_imports,
    message_revisions,
    parked_receipts,
    provider_events,
    receipt_watermarks,
    requests,
    scheduled_entries,
    scheduled_messages,
    statistics_folds,
    statistics_rollups,
    statistics_states,
    statistics_time_zones,
    thread_follows,
    thread_states,
);
