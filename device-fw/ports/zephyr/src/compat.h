/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not the same in all SDKs from v2.4 to v3.3; everything else of the application is written
 * once. Compiled was v2.4.0; the rest is from the migration guides and the headers of the others.
 *
 * Elsewhere: LTE_LC_..._MODULE (v2.8) are implied, see FIELDGATE_LATER_SDK in Kconfig. The board
 * nrf9160dk_nrf9160_ns is nrf9160dk/nrf9160/ns from v2.7 on; its files under boards/ have the same
 * names. The bootloader is a child image (child_image/) up to v2.6, and sysbuild's (sysbuild.conf,
 * sysbuild/) from v2.7 on. TF-M's minimal profile, once the default, is asked for by prj.conf: it
 * is not the default any more in v3.3.
 */
#ifndef FIELDGATE_COMPAT_H
#define FIELDGATE_COMPAT_H

#include <ncs_version.h>
#include <modem/lte_lc.h>
#include <nrf_socket.h>

/* v2.8: the modem library's start initializes it, and lte_lc_init is gone. */
static inline int compat_lte_init(void)
{
#if NCS_VERSION_NUMBER < 0x20800
	return lte_lc_init();
#else
	return 0;
#endif
}

/* Release assistance: one option with five values from v2.6 on, five options before. */
enum compat_rai {
#ifdef NRF_SO_RAI
	COMPAT_RAI_NO_DATA = NRF_RAI_NO_DATA, /* now: nothing more, in either direction */
	COMPAT_RAI_LAST = NRF_RAI_LAST,	      /* the next send is the last one, for some time */
#else
	COMPAT_RAI_NO_DATA = NRF_SO_RAI_NO_DATA,
	COMPAT_RAI_LAST = NRF_SO_RAI_LAST,
#endif
};

/* 0 or -1 and errno, as nrf_setsockopt. */
static inline int compat_set_rai(int fd, enum compat_rai what)
{
	int value = what;

#ifdef NRF_SO_RAI
	return nrf_setsockopt(fd, NRF_SOL_SOCKET, NRF_SO_RAI, &value, sizeof(value));
#else
	return nrf_setsockopt(fd, NRF_SOL_SOCKET, value, NULL, 0);
#endif
}

#endif
