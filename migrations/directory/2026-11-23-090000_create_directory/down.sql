DROP TABLE directory.tenants;
DROP TABLE directory.installation;
DROP FUNCTION directory.now();
