/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <errno.h>

#include <psa/crypto.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

/* For ever the same: a device's public key is registered once. */
#define KEY_ID	  PSA_KEY_ID_USER_MIN
#define ALGORITHM PSA_ALG_ECDSA(PSA_ALG_SHA_256)
#define KEY_BITS  256

static int result_of(psa_status_t status, const char *what)
{
	if (status == PSA_SUCCESS)
		return 0;
	LOG_ERR("%s: the secure world refuses (PSA %d)", what, (int)status);
	return -EIO;
}

static bool exists(void)
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_status_t status = psa_get_key_attributes(KEY_ID, &attributes);

	psa_reset_key_attributes(&attributes);
	return status == PSA_SUCCESS;
}

/* Without PSA_KEY_USAGE_EXPORT: nobody gets it out. */
static int make(void)
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_key_id_t id;

	psa_set_key_id(&attributes, KEY_ID);
	psa_set_key_lifetime(&attributes, PSA_KEY_LIFETIME_PERSISTENT);
	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_bits(&attributes, KEY_BITS);
	psa_set_key_algorithm(&attributes, ALGORITHM);
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_SIGN_MESSAGE | PSA_KEY_USAGE_SIGN_HASH);
	return result_of(psa_generate_key(&attributes, &id), "New key");
}

int key_init(void)
{
	static K_MUTEX_DEFINE(lock); /* agent and shell: one key is made */
	int rc;

	k_mutex_lock(&lock, K_FOREVER);
	rc = result_of(psa_crypto_init(), "Crypto");
	if (rc == 0 && !exists())
		rc = make();
	k_mutex_unlock(&lock);
	return rc;
}

int key_public(uint8_t out[KEY_PUBLIC_LENGTH])
{
	size_t length;
	int rc = key_init();

	if (rc == 0)
		rc = result_of(psa_export_public_key(KEY_ID, out, KEY_PUBLIC_LENGTH, &length),
			       "Public key");
	return rc == 0 && length != KEY_PUBLIC_LENGTH ? -EIO : rc;
}

int key_sign(const void *bytes, size_t length, uint8_t signature[KEY_SIGNATURE_LENGTH])
{
	size_t n;
	int rc = key_init();

	if (rc == 0)
		rc = result_of(psa_sign_message(KEY_ID, ALGORITHM, bytes, length, signature,
						KEY_SIGNATURE_LENGTH, &n),
			       "Signature");
	return rc == 0 && n != KEY_SIGNATURE_LENGTH ? -EIO : rc;
}
