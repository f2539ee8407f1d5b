# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The files that a stack writes into RUN_DIR for its parts and for scripts. All are written again at each
# start. The values come from fieldgate-stack.
# shellcheck disable=SC2154

# Only suites of pre-shared keys are offered on this one, so only devices that have one get through.
psk_listener() {
	cat <<-END

		listener $psk_port
		psk_hint fieldgate
	END
	cat "$home/bin/lib/tls-profile-psk.conf"
}

# The listener asks for certificates and for nothing else: whether one is registered, the plugin decides.
write_mosquitto_conf() {
	{
		cat <<-END
			# Written by bin/fieldgate-stack at each start; changes are lost.
			plugin $plugin
			plugin_opt_config $run_dir/fieldgate.conf

			listener $mqtt_port
			require_certificate true
			allow_anonymous false
			cafile $run_dir/pki/device-ca-chain.pem
			certfile $run_dir/pki/servers/localhost/chain.pem
			keyfile $run_dir/pki/servers/localhost/key.pem

		END
		cat "$home/bin/lib/tls-profile.conf"
		[[ -z $psk_port ]] || psk_listener
		cat <<-END

			# More than payload.max_bytes and the longest topic. Who sends a longer packet, before or after
			# it was let in, is cut off before there is memory for it.
			max_packet_size 262144

			# A retained message of somebody who is not let in any more is not delivered. The default, says the
			# manual; not so in 2.0.11.
			check_retain_source true

			# Sessions and messages that wait for a device survive a restart.
			persistence true
			persistence_location $run_dir/broker/
			autosave_interval 300

			log_dest stderr
			log_timestamp false
			log_type error
			log_type warning
			log_type notice
			log_type information
		END
		if ((EUID == 0)); then
			cat <<-END

				# Started by root, Mosquitto would become the user mosquitto, who cannot read the private keys
				# below this directory (mode 0600, root's). This is a development stack: it stays root.
				user root
			END
		fi
	} >"$run_dir/mosquitto.conf"
}

write_fieldgate_conf() {
	cat >"$run_dir/fieldgate.conf" <<-END
		# Written by bin/fieldgate-stack at each start; changes are lost. README.md lists the settings.
		database.url = $(database_url fieldgate_ingest)
		state.dir = $run_dir/state

		# The CoAP server's; the plugin passes them over. Devices may show their certificate, or use a JWT or
		# a pre-shared key that is registered for them.
		coap.listen = [::]:$coap_port
		coap.certificate_file = $run_dir/pki/servers/localhost/chain.pem
		coap.key_file = $run_dir/pki/servers/localhost/key.pem
		coap.client_ca_file = $run_dir/pki/device-ca-chain.pem
		secrets.key_file = $run_dir/pki/master.key
		${sessions_dir:+coap.sessions_dir = $sessions_dir}
	END
	[[ ! -e $run_dir/pki/services/$bus_service/cert.pem ]] || cat >>"$run_dir/fieldgate.conf" <<-END

		# One bus for both protocols: what CoAP devices post, and what rules republish, goes to the broker.
		bus.host = localhost
		bus.port = $mqtt_port
		bus.ca_file = $run_dir/pki/ca.pem
		bus.certificate_file = $run_dir/pki/services/$bus_service/cert.pem
		bus.key_file = $run_dir/pki/services/$bus_service/key.pem
	END
}

# `fleet psk` would make it with the first pre-shared key; the CoAP server wants it from the beginning.
make_master_key() {
	[[ -e $run_dir/pki/master.key ]] || "$build/tools/fieldgate-secret" make-key "$run_dir/pki/master.key" 9>&-
}

# DTLS sessions live on tmpfs, so that they survive `make stop` and `make run` but not the machine's reboot.
# Those of a RUN_DIR that is gone are removed here. Sets sessions_dir; empty: there is no tmpfs.
make_sessions_dir() {
	local shm=/dev/shm dir
	sessions_dir=
	[[ $(stat --file-system --format=%T "$shm" 2>/dev/null) == tmpfs && -w $shm ]] || return 0
	for dir in "$shm/fieldgate-run-$EUID"-*/; do
		[[ ! -O $dir || ! -r $dir/run_dir || -d $(<"$dir/run_dir") ]] || rm -rf -- "$dir"
	done
	sessions_dir=$shm/fieldgate-run-$EUID-$(printf '%s' "$run_dir" | sha256sum | cut -c -16)
	[[ -d $sessions_dir ]] || mkdir -m 0700 -- "$sessions_dir"
	printf '%s\n' "$run_dir" >"$sessions_dir/run_dir"
}

single_quoted() { # TEXT
	printf "'%s'" "${1//\'/\'\\\'\'}"
}

# What `make env` prints. It exists as long as the stack is ready: readers see all of it or none.
write_env() {
	local name
	local -A value=(
		[FIELDGATE_DATABASE_URL]=$(database_url fieldgate_owner)
		[FIELDGATE_MQTT_PORT]=$mqtt_port
		[FIELDGATE_COAP_PORT]=$coap_port
		[FIELDGATE_CA]=$run_dir/pki/ca.pem
		[FIELDGATE_CREDENTIALS]=$run_dir/pki/devices
		[FLEET_DIR]=$run_dir/pki
	)
	[[ -z $psk_port ]] || value[FIELDGATE_PSK_PORT]=$psk_port
	for name in "${!value[@]}"; do
		printf 'export %s=%s\n' "$name" "$(single_quoted "${value[$name]}")"
	done >"$run_dir/env.new"
	mv -- "$run_dir/env.new" "$run_dir/env"
}
