DROP TABLE directory.quarantine;
DROP TABLE directory.deliveries;
DROP TABLE directory.channel_accounts;
DROP TABLE directory.provider_apps;
