"""What the TOM calls within a request; the slow part is only enqueued."""

from .tasks import extract_sources


def data_product_post_upload(product):
    if product.data_product_type == "fits_file":
        extract_sources.using(max_attempts=3).enqueue(product.pk)
