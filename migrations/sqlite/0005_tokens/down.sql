DROP TABLE audit_log;
DROP TABLE token_log;
DROP TABLE tokens;
