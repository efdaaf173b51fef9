"""Where the service calls this site: `path("nightshift/", include("django_nightshift.urls"))`."""

from django.urls import path

from .views import execute_task

app_name = "nightshift"
urlpatterns = [path("", execute_task, name="execute")]
