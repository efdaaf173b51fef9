from django.apps import AppConfig


class NightshiftConfig(AppConfig):
    name = "django_nightshift"
    verbose_name = "Nightshift"
