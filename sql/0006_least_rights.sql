-- SPDX-License-Identifier: Apache-2.0
-- Less for the two roles that are most easily lost: the one in the broker's process, which meets the network,
-- and the one that people put into dashboards.

-- The processes write history and never read it: a broker that was taken over shall not tell it.
revoke select on telemetry, dead_letter, presence_event, device, device_status, fieldgate_status,
	dead_letter_summary, credential_expiring, storage from fieldgate_ingest;
grant select (device, ts, seq) on telemetry to fieldgate_ingest;

-- The fingerprint of a token is a plain SHA-256: whoever has it can try tokens at home.
revoke select (fingerprint) on credential from fieldgate_reader;
create or replace view credential_expiring as
	select principal, kind,
		case when kind in ('x509', 'x509_key', 'jwt') then encode(fingerprint, 'hex') end as fingerprint,
		serial, not_after, not_after - now() as remaining
	from credential
	where revoked_at is null and not_after < now() + interval '30 days'
	order by not_after;
comment on column credential_expiring.fingerprint is 'Its fingerprint in hexadecimal, if it is one of something public';
comment on column credential.fingerprint is 'SHA-256 of: the DER certificate (x509); the DER public key (x509_key, jwt); the PSK identity (psk); id, a zero byte and the token (token), which must be random, of 128 bits or more, for nothing slows guessing down';
