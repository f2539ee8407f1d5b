-- SPDX-License-Identifier: Apache-2.0
-- The service that fieldgate-coap shows itself to the broker as. What it publishes is what CoAP devices have
-- posted and what rules republish, so it may publish everything, and the broker's plugin does not take it in again.

insert into policy (name, description) values
	('bus', 'Built in, for the services of fieldgate-coap: publishes for every device; what it publishes is not stored again');
insert into policy_rule (policy, effect, action, filter) values
	('bus', 'allow', 'publish', '#'),
	('bus', 'allow', 'relay', '#');

-- What a device publishes is always taken in. The plugin asks for a service as well; this is so that a policy
-- that says otherwise is noticed when it is written. Two transactions at once do not pass by each other: the trigger
-- registry_changed, which comes before this one by its name, waits for the other's end.
create function relay_is_of_services() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_device text;
	v_policy text;
begin
	if tg_table_name = 'principal' then
		select p.id, p.policy into v_device, v_policy
			from changed p join policy_rule r on r.policy = p.policy
			where p.kind = 'device' and r.action = 'relay' and r.effect = 'allow' limit 1;
	else
		select p.id, p.policy into v_device, v_policy
			from changed r join principal p on p.policy = r.policy
			where p.kind = 'device' and r.action = 'relay' and r.effect = 'allow' limit 1;
	end if;
	if found then
		raise exception 'device % may not have policy %: the right relay is for services', v_device, v_policy
			using errcode = 'check_violation',
				hint = 'What comes with the right relay is not stored; give the device a policy without it.';
	end if;
	return null;
end
$$;
comment on function relay_is_of_services() is 'A device never has the right relay, whether it is given the policy or the policy the right';
revoke execute on function relay_is_of_services() from public;

create trigger relay_is_of_services_insert after insert on principal
	referencing new table as changed for each statement execute function relay_is_of_services();
create trigger relay_is_of_services_update after update on principal
	referencing new table as changed for each statement execute function relay_is_of_services();
create trigger relay_is_of_services_insert after insert on policy_rule
	referencing new table as changed for each statement execute function relay_is_of_services();
create trigger relay_is_of_services_update after update on policy_rule
	referencing new table as changed for each statement execute function relay_is_of_services();
