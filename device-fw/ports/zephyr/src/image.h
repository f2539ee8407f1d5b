/* SPDX-License-Identifier: Apache-2.0 */
/* The running image and MCUboot. */
#ifndef FIELDGATE_IMAGE_H
#define FIELDGATE_IMAGE_H

/* It works: it stays. Until then MCUboot takes the former image at the next start. */
void image_confirm(void);

#endif
