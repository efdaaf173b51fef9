"""Slow work of a TOM."""

import json
import logging

import numpy as np
import sep
from astropy.io import fits
from django.core.files.base import ContentFile
from django.core.mail import send_mail
from django_nightshift import set_progress
from django_tasks import task
from tom_dataproducts.models import DataProduct

logger = logging.getLogger(__name__)


@task
def extract_sources(data_product_id, threshold=5.0):
    """Finds the sources of an uploaded image, and stores their catalogue beside it."""
    product = DataProduct.objects.get(pk=data_product_id)
    set_progress(0.1, "reading the image")
    image = np.ascontiguousarray(fits.getdata(product.data.path), dtype=np.float32)
    set_progress(0.3, "measuring the background")
    background = sep.Background(image)
    set_progress(0.6, "looking for sources")
    sources = sep.extract(image - background, threshold, err=background.globalrms)
    logger.info("%d sources in %s", len(sources), product)
    catalogue = [
        {"x": float(s["x"]), "y": float(s["y"]), "flux": float(s["flux"])} for s in sources
    ]
    name = f"{product.get_file_name()}.sources.json"
    stored = DataProduct.objects.create(
        product_id=name,
        target=product.target,
        data=ContentFile(json.dumps(catalogue), name=name),
    )
    return {"sources": len(catalogue), "catalogue": stored.pk}


@task
def mail_investigator(address, target, message):
    """One mail to one person, so that one that bounces holds up no other."""
    sent = send_mail(f"New observations of {target}", message, None, [address])
    return {"sent": sent}
