openCharts();
