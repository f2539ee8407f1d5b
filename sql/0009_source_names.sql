-- SPDX-License-Identifier: Apache-2.0
-- The CoAP server may have several processes, each with a journal of its own.

comment on column presence_event.source is 'The process that saw it: mqtt, coap, coap-1, ...';
comment on column presence.source is 'The process that it is connected to: mqtt, coap, coap-1, ...';
comment on column presence.client_id is 'The protocols own name of the connection; over CoAP all of a devices sessions are one connection, dtls';
comment on column ingest.source is 'The process that it belongs to: mqtt, coap, coap-1, ...';
comment on column device_status.source is 'The process that it is, or was last, connected to: mqtt, coap, coap-1, ...';
comment on column fieldgate_status.source is 'The process: mqtt, coap, coap-1, ...';
